"""Sessions: how many, how long, how often one buys."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns
from expectations.no_rows import ExpectNoRows
from expectations.session_length import ExpectMeanSessionLengthToBeBetween

_SHARED = """
select shop, session_id, count(*) as sessions from {batch}
where session_id is not null
group by shop, session_id
having count(*) > 1
"""

COLUMNS = (
    "session_key",
    "shop",
    "session_id",
    "client_id",
    "started_at",
    "ended_at",
    "session_date",
    "event_count",
    "pageview_count",
    "detail_count",
    "add_count",
    "remove_count",
    "purchase_count",
    "transaction_count",
    "product_count",
    "first_purchase_at",
    "revenue",
    "is_purchase",
)


def suite() -> ExpectationSuite:
    return ExpectationSuite(
        "marts.fct_sessions",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True, severity="critical"),
            gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical"),
            *columns.key("session_key"),
            gxe.ExpectColumnValuesToBeUnique(column="session_key", severity="critical"),
            *columns.event_time("started_at"),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="ended_at", column_B="started_at", or_equal=True, severity="critical"
            ),
            gxe.ExpectColumnValuesToBeBetween(column="event_count", min_value=1, severity="critical"),
            ExpectMeanSessionLengthToBeBetween(
                description="The mean session of each shop has 1.5 to 50 events",  # real shops: about 4 to 8
                min_events=1.5,
                max_events=50,
                severity="warning",
            ),
            ExpectNoRows(
                description="No session id is used by several clients: such a session is split by client",
                unexpected_rows_query=_SHARED,
                severity="warning",
            ),
            # A robot, or one client id shared by many.
            gxe.ExpectColumnMaxToBeBetween(column="event_count", max_value=5_000, severity="warning"),
            # In a web shop a few sessions of a hundred buy; where most do, events before the purchase are missing.
            gxe.ExpectColumnValuesToBeInSet(column="is_purchase", value_set=[False], mostly=0.5, severity="warning"),
            gxe.ExpectColumnValuesToBeBetween(column="revenue", min_value=0, severity="warning"),
            *columns.not_negative(*(name for name in COLUMNS if name.endswith("_count") and name != "event_count")),
        ],
    )
