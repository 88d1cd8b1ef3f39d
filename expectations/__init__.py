"""Checks of the warehouse's data: one file per table, one severity per expectation.

A failed `critical` expectation stops the flow before training. A failed `warning` is shown in the run. An expectation
that one row can break is a warning, because a sender of events must not be able to stop the flow. Columns and types of
the marts are not checked here: dbt enforces their contracts on every build.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite


SILENCE = "The shop of this platform has collected events since yesterday, if it had some in the week before"
"""Description of the warning that also sends an alert."""
_CHANGED_SESSIONS = "session_key in (select session_key from intermediate.int_session_events_changed)"
CHANGED_ROWS = {
    "raw.events": "load_id in (select load_id from intermediate.int_loads_pending)",
    "marts.fct_sessions": _CHANGED_SESSIONS,
    "marts.fct_session_events": _CHANGED_SESSIONS,
    "marts.recommend_examples": _CHANGED_SESSIONS,
    "marts.intent_examples": _CHANGED_SESSIONS,
}
"""SQL condition of the rows that the last build changed, by table. Other tables are small, or rebuilt as a whole."""


def suites(shop: str = "shop") -> "tuple[ExpectationSuite, ...]":
    """Build all suites. Build them for each check, because limits on times depend on the current time.

    Args:
        shop: Shop of the platform. A collapsed day of another shop is a warning, because any name can be sent.
    """
    # Great Expectations takes seconds to import; only checks need it.
    from expectations import (
        daily_volume,
        dim_products,
        fct_session_events,
        fct_sessions,
        fct_transactions,
        intent_examples,
        kpi_daily,
        kpi_hourly,
        raw_events,
        raw_loads,
        recommend_examples,
    )

    tables = (
        raw_loads,
        raw_events,
        fct_sessions,
        fct_session_events,
        fct_transactions,
        dim_products,
        recommend_examples,
        intent_examples,
        daily_volume,
        kpi_daily,
        kpi_hourly,
    )
    of_the_shop = (raw_events, daily_volume)
    return tuple(table.suite(shop) if table in of_the_shop else table.suite() for table in tables)
