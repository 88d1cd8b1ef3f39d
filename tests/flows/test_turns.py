"""Runs of one platform take turns. Runs of other platforms do not wait."""

import asyncio
import json
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.states import Running, State

from deployments.register import WORK_POOL
from deployments.services import end_lost_runs
from tasks.turns import LONGEST_RUN
from tests.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Span = tuple[float, float]
LONG_AGO = datetime.now(UTC).replace(tzinfo=None) - LONGEST_RUN - timedelta(hours=1)

_WORK = """
import json, sys, time
from prefect import flow
from tasks.turns import take_turn

@flow(name=sys.argv[1])
def working(platform: str, seconds: float) -> None:
    take_turn(platform, "loading", "repairing")
    began = time.time()
    time.sleep(seconds)
    print(json.dumps([began, time.time()]))

working(sys.argv[2], float(sys.argv[3]))
"""


@flow(name="loading")
def loading(platform: str) -> None:
    """Be the flow of a run that has lost its process."""


def span_of(installation: Installation, name: str, platform: str, seconds: float) -> Span:
    """Run a flow in a process, and return the time of its work."""
    ended = installation.command("python", "-c", _WORK, name, platform, str(seconds), timeout=300)
    assert ended.returncode == 0, ended.stderr
    begin, end = json.loads(re.findall(r"^\[.*\]$", ended.stdout, re.MULTILINE)[-1])
    return begin, end


def overlap(first: Span, second: Span) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def lost_run(client: SyncPrefectClient, platform: str) -> FlowRun:
    """Create a run that seems to run."""
    run = client.create_flow_run(loading, parameters={"platform": platform})
    client.set_flow_run_state(run.id, Running(), force=True)
    return run


def test_runs_of_a_platform_take_turns_and_other_platforms_do_not_wait(client: Installation) -> None:
    with ThreadPoolExecutor() as pool:
        names = (("loading", "shop", 5), ("repairing", "shop", 5), ("loading", "other", 30))
        first, second, other = pool.map(lambda arguments: span_of(client, *arguments), names)
    assert not overlap(first, second)
    assert overlap(first, other) or overlap(second, other)


def test_a_run_without_a_process_is_not_waited_for_after_the_longest_time_of_a_run(client: Installation) -> None:
    with get_client(sync_client=True) as api:
        lost = lost_run(api, "lost")
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(span_of, client, "loading", "lost", 0.1)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=30)
            with sqlite3.connect(client.settings.home / "prefect" / "prefect.db") as database:
                database.execute("update flow_run set start_time = ? where id = ?", (str(LONG_AGO), str(lost.id)))
            waiting.result(timeout=60)


def test_a_new_start_of_the_services_ends_runs_without_a_process(client: Installation) -> None:
    async def lose_a_run() -> State:
        async with get_client() as api:
            deployment = await api.read_deployment_by_name("promote/rollback")
            assert deployment.work_pool_name == WORK_POOL
            run = await api.create_flow_run_from_deployment(deployment.id, state=Running())
            await end_lost_runs()
            return (await api.read_flow_run(run.id)).state

    ended = asyncio.run(lose_a_run())
    assert ended.name == "Crashed"
    assert ended.message == "The process of this run ended while the services were down."
