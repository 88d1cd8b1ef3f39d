"""What the recommender learns from."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns

COLUMNS = ("session_key", "shop", "started_at", "position", "event_time", "event_type", "product_id", "url_before")


def suite() -> ExpectationSuite:
    return ExpectationSuite(
        "marts.recommend_examples",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True, severity="critical"),
            gxe.ExpectTableRowCountToBeBetween(min_value=2, severity="critical"),
            *columns.key("session_key"),
            *columns.key("product_id"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["session_key", "position"], severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="position", min_value=1, severity="critical"),
            *columns.event_time(),
            gxe.ExpectColumnValuesToBeInSet(
                column="event_type", value_set=["detail", "click", "add", "purchase"], severity="critical"
            ),
            # A recommender cannot choose among fewer products than it shows.
            gxe.ExpectColumnUniqueValueCountToBeBetween(column="product_id", min_value=20, severity="warning"),
        ],
    )
