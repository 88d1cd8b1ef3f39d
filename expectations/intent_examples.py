"""Training examples of purchase intent.

A shop without purchases trains no intent model and still recommends, so missing examples are a warning.
"""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns
from expectations.unique_together import unique_together


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.intent_examples",
        expectations=[
            gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="warning"),
            *columns.key("session_key"),
            unique_together("session_key", "position"),
            gxe.ExpectColumnValuesToBeBetween(column="position", min_value=1, severity="critical"),
            *columns.event_time(),
            # A purchase would reveal the label.
            gxe.ExpectColumnValuesToBeInSet(
                column="event_type",
                value_set=["pageview", "search", "click", "detail", "add", "remove"],
                severity="critical",
            ),
            gxe.ExpectColumnValuesToNotBeNull(column="is_purchase", severity="critical"),
            # Both labels exist.
            gxe.ExpectColumnUniqueValueCountToBeBetween(
                column="is_purchase", min_value=2, max_value=2, severity="warning"
            ),
        ],
    )
