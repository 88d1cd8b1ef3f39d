"""Products that can be recommended, with their names."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations.unique_together import unique_together


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.dim_products",
        expectations=[
            gxe.ExpectColumnValuesToNotBeNull(column="product_id", severity="critical"),
            unique_together("shop", "product_id"),
            gxe.ExpectColumnValuesToBeBetween(column="event_count", min_value=0, severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, severity="warning"),
        ],
    )
