"""Hourly KPIs, checked like the daily ones."""

from great_expectations import ExpectationSuite

from expectations import kpi_daily


def suite() -> ExpectationSuite:
    """Build the suite."""
    return kpi_daily.suite("marts.kpi_hourly", "hour")
