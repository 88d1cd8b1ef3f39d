"""Names that tell one run from another in the UI."""

from collections.abc import Callable

from prefect import runtime


def dated(what: str) -> Callable[[], str]:
    """A `flow_run_name` such as `retrain 2026-11-21 02:30`: what, and when it was to start (UTC)."""
    return lambda: f"{what} {runtime.flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"
