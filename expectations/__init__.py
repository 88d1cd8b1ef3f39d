"""What must hold in the warehouse: one file a table, one severity an expectation.

`critical` stops the flow before training. `warning` is shown and lets it go on. An expectation that the content of one
row can break is a warning: a sender of events must not be able to stop the flow.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite


SILENCE = "The platform's shop, which was collected from in the last week, had events yesterday"
"""Description of the expectation that is worth an alert, though it stops nothing."""


def suites(shop: str = "shop") -> "tuple[ExpectationSuite, ...]":
    """Return all suites, made now: what counts as the future moves on.

    Args:
        shop: The platform's own shop. A collapsed day of another one is a warning: any shop name can be sent.
    """
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
