"""Names of flow runs in the UI."""

from collections.abc import Callable

from prefect import runtime


def dated(flow_name: str) -> Callable[[], str]:
    """Return a `flow_run_name` with the scheduled start (UTC), such as `retrain 2026-11-21 02:30`."""
    return lambda: f"{flow_name} {runtime.flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"
