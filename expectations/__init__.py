"""What must hold in the warehouse: one file a table, one severity an expectation.

`critical` stops the flow before training. `warning` is shown and lets it go on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite


def suites() -> "tuple[ExpectationSuite, ...]":
    """All suites, made now: what counts as the future moves on."""
    # Great Expectations takes seconds to import: only a run that checks pays for it.
    from expectations import (
        daily_volume,
        dim_products,
        fct_session_events,
        fct_sessions,
        fct_transactions,
        intent_examples,
        kpi_daily,
        kpi_hourly,
        next_item_examples,
        raw_events,
        raw_loads,
    )

    tables = (
        raw_loads,
        raw_events,
        fct_sessions,
        fct_session_events,
        fct_transactions,
        dim_products,
        next_item_examples,
        intent_examples,
        daily_volume,
        kpi_daily,
        kpi_hourly,
    )
    return tuple(table.suite() for table in tables)
