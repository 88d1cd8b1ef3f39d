"""The raw log, from which every later table is built.

A bad row stays in an append-only log, so an expectation about rows is a warning here. `staging.stg_events` excludes
such rows, and the same expectation is critical for later tables.
"""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.row_conditions import Column

from boat.events import COLUMNS, EVENT_TYPES, PRODUCT_EVENT_TYPES
from expectations import SILENCE, columns, silence
from expectations.no_rows import ExpectNoRows
from expectations.unique_together import unique_together

_LOG_COLUMNS = ("schema_version", "extra", "load_id", "source_file", "source_line")

# Clocks of devices are off by minutes; an hour is a wrong time zone.
_STAMPED_LATER = """
select shop, count(*) as events from {batch}
where received_at is not null
group by shop
having count(case when event_time > received_at + interval '1 hour' then 1 end) > 0.01 * count(*)
"""


def suite(shop: str = "shop") -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "raw.events",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(
                column_set=[*(column.name for column in COLUMNS), *_LOG_COLUMNS], exact_match=True, severity="critical"
            ),
            gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical"),
            *columns.key("event_id", severity="warning"),
            *(columns.text(name) for name in ("session_id", "client_id", "product_id")),
            unique_together("shop", "event_id"),
            gxe.ExpectColumnValuesToNotBeNull(column="shop", severity="warning"),
            *columns.event_time(severity="warning"),
            gxe.ExpectColumnValuesToNotBeNull(column="event_type", severity="warning"),
            gxe.ExpectColumnValuesToBeInSet(column="event_type", value_set=list(EVENT_TYPES), severity="warning"),
            gxe.ExpectColumnValuesToNotBeNull(
                column="product_id",
                row_condition=Column("event_type").is_in(PRODUCT_EVENT_TYPES),
                severity="warning",
            ),
            gxe.ExpectColumnValuesToNotBeNull(
                column="client_id", row_condition=Column("session_id").is_null(), severity="warning"
            ),
            ExpectNoRows(
                description="At most 1 % of the events of each shop have a time after their receipt",
                unexpected_rows_query=_STAMPED_LATER,
                severity="warning",
            ),
            ExpectNoRows(
                description=SILENCE,
                unexpected_rows_query=silence.query(columns.sql_text(shop), "{batch}"),
                severity="warning",
            ),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, severity="warning"),
            gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=0, severity="warning"),
        ],
    )
