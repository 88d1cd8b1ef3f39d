"""What the purchase intent is learned from.

A shop that sends no purchases trains no intent and still recommends: what is missing here only warns.
"""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns

COLUMNS = (
    "session_key",
    "shop",
    "started_at",
    "position",
    "event_time",
    "event_type",
    "product_id",
    "url",
    "is_purchase",
)


def suite() -> ExpectationSuite:
    return ExpectationSuite(
        "marts.intent_examples",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True, severity="critical"),
            gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="warning"),
            *columns.key("session_key"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["session_key", "position"], severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="position", min_value=1, severity="critical"),
            *columns.event_time(),
            # A purchase in here would give the label away.
            gxe.ExpectColumnValuesToBeInSet(
                column="event_type",
                value_set=["pageview", "search", "click", "detail", "add", "remove"],
                severity="critical",
            ),
            gxe.ExpectColumnValuesToNotBeNull(column="is_purchase", severity="critical"),
            # Both labels are there.
            gxe.ExpectColumnUniqueValueCountToBeBetween(
                column="is_purchase", min_value=2, max_value=2, severity="warning"
            ),
        ],
    )
