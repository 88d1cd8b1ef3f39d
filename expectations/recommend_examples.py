"""Training examples of recommendations."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns
from expectations.unique_together import unique_together


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.recommend_examples",
        expectations=[
            gxe.ExpectTableRowCountToBeBetween(min_value=2, severity="critical"),
            *columns.key("session_key"),
            *columns.key("product_id"),
            unique_together("session_key", "position"),
            gxe.ExpectColumnValuesToBeBetween(column="position", min_value=1, severity="critical"),
            *columns.event_time(),
            gxe.ExpectColumnValuesToBeInSet(
                column="event_type", value_set=["detail", "click", "add", "purchase"], severity="critical"
            ),
            # A recommendation lists 20 products.
            gxe.ExpectColumnUniqueValueCountToBeBetween(column="product_id", min_value=20, severity="warning"),
        ],
    )
