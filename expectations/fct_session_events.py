"""Events of sessions: order and content."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.row_conditions import Column

from boat.events import EVENT_TYPES, PRODUCT_EVENT_TYPES
from expectations import columns
from expectations.unique_together import unique_together


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.fct_session_events",
        expectations=[
            gxe.ExpectTableRowCountToBeBetween(min_value=1, severity="critical"),
            *columns.key("session_key"),
            unique_together("session_key", "position"),
            gxe.ExpectColumnValuesToBeBetween(column="position", min_value=1, severity="critical"),
            *columns.event_time(),
            gxe.ExpectColumnValuesToBeInSet(column="event_type", value_set=list(EVENT_TYPES), severity="critical"),
            gxe.ExpectColumnValuesToNotBeNull(
                column="product_id",
                row_condition=Column("event_type").is_in(PRODUCT_EVENT_TYPES),
                severity="critical",
            ),
            gxe.ExpectColumnValuesToBeBetween(column="seconds_since_previous", min_value=0, severity="critical"),
        ],
    )
