"""Sessions: number, length and share of purchases."""

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


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.fct_sessions",
        expectations=[
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
                description="No session id has several clients: such a session is split by client",
                unexpected_rows_query=_SHARED,
                severity="warning",
            ),
            # A robot, or a client id that many shoppers share.
            gxe.ExpectColumnMaxToBeBetween(column="event_count", max_value=5_000, severity="warning"),
            # In a web shop a few per cent of sessions buy. If most do, events before the purchase are missing.
            gxe.ExpectColumnValuesToBeInSet(column="is_purchase", value_set=[False], mostly=0.5, severity="warning"),
            gxe.ExpectColumnValuesToBeBetween(column="revenue", min_value=0, severity="warning"),
            *columns.not_negative(
                "pageview_count",
                "detail_count",
                "add_count",
                "remove_count",
                "purchase_count",
                "transaction_count",
                "product_count",
            ),
        ],
    )
