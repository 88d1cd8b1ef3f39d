"""Runs that would disturb each other take turns: a run waits until earlier ones have ended."""

import time
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

LONGEST_RUN = timedelta(hours=6)
"""Longest time limit of a flow. An older run that seems to run has lost its process."""
_PAUSE_SECONDS = 2.0


def take_turn(platform: str, *flows: str) -> None:
    """Wait until no earlier run of these flows runs with the same platform block.

    The Prefect server knows all runs, also those on other machines. The time limit of the waiting flow ends the wait.

    Args:
        platform: Name of the Boat Platform block.
        flows: Names of flows, with that of the present run.
    """
    waits_for = ""
    while before := _before(platform, flows):
        if before.name != waits_for:
            waits_for = before.name
            get_run_logger().info("Waiting for the end of %s, which uses the platform %r too.", waits_for, platform)
        time.sleep(_PAUSE_SECONDS)


def _before(platform: str, flows: tuple[str, ...]) -> FlowRun | None:
    """Return an earlier run of the same platform that has not ended."""
    running = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
    with get_client(sync_client=True) as client:
        present = client.read_flow_run(runtime.flow_run.id)
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=running)),
        )
    oldest = datetime.now(UTC) - LONGEST_RUN
    earlier = (
        run
        for run in runs
        if run.parameters.get("platform", "default") == platform
        and run.start_time
        and oldest < run.start_time
        and (run.start_time, run.id) < (present.start_time, present.id)
    )
    return min(earlier, key=lambda run: run.start_time, default=None)
