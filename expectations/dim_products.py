"""Products: what can be recommended, and by which name."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

COLUMNS = (
    "shop",
    "product_id",
    "product_name",
    "category",
    "price",
    "first_seen_at",
    "event_count",
    "description_vector",
)


def suite() -> ExpectationSuite:
    return ExpectationSuite(
        "marts.dim_products",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True, severity="critical"),
            gxe.ExpectColumnValuesToNotBeNull(column="product_id", severity="critical"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["shop", "product_id"], severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="event_count", min_value=0, severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, severity="warning"),
        ],
    )
