"""Daily KPIs, and the suite of the hourly ones."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns
from expectations.unique_together import unique_together

COUNTS = (
    "active_clients",
    "new_clients",
    "events",
    "pageviews",
    "details",
    "adds",
    "removes",
    "transactions",
    "sessions_with_detail",
    "sessions_with_add",
    "buying_sessions",
)
AMOUNTS = ("revenue", "tax", "shipping")


def suite(table: str = "marts.kpi_daily", grain: str = "day") -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        table,
        expectations=[
            gxe.ExpectColumnValuesToNotBeNull(column="shop", severity="critical"),
            unique_together("shop", grain),
            gxe.ExpectColumnValuesToBeBetween(column="sessions", min_value=1, severity="critical"),
            gxe.ExpectColumnValuesToBeBetween(column="conversion_rate", min_value=0, max_value=1, severity="critical"),
            *columns.not_negative(*COUNTS),
            *columns.not_negative(*AMOUNTS, severity="warning"),
        ],
    )
