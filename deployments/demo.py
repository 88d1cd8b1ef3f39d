"""Run all flows once and show a live prediction: `python -m deployments.demo [--events FILE]`.

The demo starts the services and prepares events: a seeded synthetic shop, or your own. It starts `ingestion/hourly` and
`retrain/nightly` as deployment runs for the worker. Then it waits for the `promote/latest` that the training starts,
and requests predictions from the endpoints.
"""

import argparse
import asyncio
import logging
import re
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import FlowRunSort, LogSort, TaskRunSort
from prefect.settings import PREFECT_UI_URL

from boat import landing, settings, synthetic
from boat.errors import BoatError, SettingError
from boat.kinds import INTENT, RECOMMEND
from boat.landing import BadRows
from boat.models.sessions import SessionEvent
from boat.serving.base import invoke
from boat.settings import Settings
from deployments import services
from deployments.environment import as_client, run_command
from deployments.register import DEFAULT_SHOP
from tasks.blocks import Platform

SESSIONS, DAYS, SEED = 20_000, 28, 7
SILENT_SECONDS = 600
"""Longest time without an answer of the Prefect server. On a busy machine, an answer can take a minute."""
TRAINING_MINUTES = 1.5
_OF_SHOP = ("warehouse_url", "serving_url", "tracking_uri", "landing", "store", "reports", "reports_url")
"""Fields of the platform block with a folder of the shop or a port of the services."""
_NOISE = re.compile(r"Finished in state|PID \d+ ")


def shop_of(events: Path | None) -> str:
    """Return the name of the shop of these events. The data of each shop is in its own folder."""
    if events is None:
        return DEFAULT_SHOP
    return re.sub(r"[^a-z0-9]+", "-", f"{events.absolute().parent.name}-{events.stem}".lower()).strip("-")


def prepare_events(folder: Path, events: Path | None) -> None:
    """Copy a user's events, or generate a synthetic shop, into the landing folder. A second call changes nothing.

    Raises:
        SettingError: `events` does not exist.
    """
    if events is not None:
        if not events.exists():
            raise SettingError(f"There is no file or folder {events}.", "Set EVENTS to a file or folder of events.")
        copy = folder / events.name
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if events.is_dir() else shutil.copyfile)(events, copy)
        return
    shop = folder / "shop"
    if not shop.exists():
        unfinished = folder.parent / "shop.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        synthetic.generate(unfinished, sessions=SESSIONS, days=DAYS, seed=SEED)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.rename(shop)  # an interrupted call leaves no part of a shop


async def use_shop(config: Settings, shop: str) -> None:
    """Set the folders of a shop in the platform block `default`. Other fields stay as they are.

    Raises:
        SettingError: The block has the warehouse of another installation. It is not changed.
    """
    of_shop = Platform.on_laptop(config, shop)
    current = await Platform.load("default")
    if str(config.home) not in current.warehouse_url:
        raise SettingError(
            f"The platform block 'default' has the warehouse {current.warehouse_url}, which is not in {config.home}. "
            "The demo does not overwrite it.",
            "Set BOAT_HOME to another folder for the demo.",
        )
    platform = current.copy(update={name: getattr(of_shop, name) for name in _OF_SHOP})
    if current.dict() != platform.dict():
        await platform.save("default", overwrite=True)


async def follow(client: PrefectClient, run: FlowRun, title: str) -> FlowRun:
    """Print the progress of a flow run until it ends. The time limit of a run is that of its flow.

    Raises:
        BoatError: The run failed, or the server stopped answering.
    """
    print(f"\n{title}  {link(run)}", flush=True)
    started = time.monotonic()
    progress = Progress(client, run.id)
    answered = started
    while True:
        try:
            run = await client.read_flow_run(run.id)
            for line in await progress.new_lines():
                print(f"  {time.monotonic() - started:5.0f} s  {line}", flush=True)
            answered = time.monotonic()
        except httpx.TransportError as error:
            if time.monotonic() - answered > SILENT_SECONDS:
                raise BoatError(
                    f"The Prefect server has not answered for {SILENT_SECONDS} s. The run may go on.",
                    f"See `make status` and {link(run)}.",
                ) from error
        if run.state and run.state.is_final():
            break
        await asyncio.sleep(1)
    if not run.state.is_completed():
        raise BoatError(f"The run of {title} ended as {run.state.name}: {run.state.message}", f"See {link(run)}.")
    print(f"  {time.monotonic() - started:5.0f} s  {run.state.name}. {run.state.message or ''}", flush=True)
    return run


class Progress:
    """The progress of a flow run: new log lines, and tasks that have ended."""

    def __init__(self, client: PrefectClient, run_id: UUID) -> None:
        self._client, self._run = client, run_id
        self._ended: set[UUID] = set()
        self._logs = 0

    async def new_lines(self) -> list[str]:
        """Return the lines since the last call, oldest first."""
        of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self._run]))
        logs = await self._client.read_logs(of_run, sort=LogSort.TIMESTAMP_ASC, offset=self._logs, limit=200)
        self._logs += len(logs)
        messages = [log.message.splitlines()[0][:120] for log in logs if _is_relevant(log)]
        tasks = await self._client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[self._run])), sort=TaskRunSort.END_TIME_DESC
        )
        ended = [task for task in tasks if task.id not in self._ended and task.state and task.state.is_final()]
        self._ended |= {task.id for task in ended}
        return messages + [
            f"{task.name}: {task.state.name.lower()} after {task.total_run_time.total_seconds():.1f} s"
            for task in sorted(ended, key=lambda task: task.end_time or task.created)
        ]


def _is_relevant(log: Log) -> bool:
    from_task = log.name == "prefect.task_runs" and not _NOISE.match(log.message)
    return from_task or log.level >= logging.WARNING


def link(run: FlowRun) -> str:
    """Return the address of a run in the Prefect UI."""
    return f"{PREFECT_UI_URL.value()}/flow-runs/flow-run/{run.id}"


async def start(client: PrefectClient, name: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Start a run of a deployment, like `prefect deployment run`."""
    deployment = await client.read_deployment_by_name(name)
    return await client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))


async def promotion_after(client: PrefectClient, start: datetime) -> FlowRun:
    """Return the run of `promote/latest` that a training started after `start`.

    Raises:
        BoatError: The training started no promotion.
    """
    runs = await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["promote"])),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["latest"])),
        flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=start)),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    if not runs:
        raise BoatError("retrain/nightly did not start promote/latest.", "See its run in the Prefect UI.")
    return runs[0]


_SESSION = """
with chosen as (
    select session_key from marts.fct_sessions where product_count between 4 and 8 and purchase_count = 0
    order by started_at desc, session_key limit 1
)
select events.event_type, events.product_id, events.url, events.event_time, products.product_name
from marts.fct_session_events as events
join chosen on events.session_key = chosen.session_key
left join marts.dim_products as products on events.shop = products.shop and events.product_id = products.product_id
order by events.position
"""


def predict(platform: Platform) -> list[str]:
    """Request predictions for one of the newest sessions. Return the session and the predictions as lines."""
    with platform.warehouse.transaction() as transaction:
        rows = transaction.query(_SESSION).to_pylist()
        names = transaction.query("select product_id, product_name from marts.dim_products").to_pylist()
    name_of = {row["product_id"]: row["product_name"] or f"product {row['product_id']}" for row in names}
    events: list[SessionEvent] = [
        {
            "event_type": row["event_type"],
            "product_id": row["product_id"] or "",
            "url": row["url"] or "",
            "event_time": row["event_time"].replace(tzinfo=UTC).timestamp(),
        }
        for row in rows
    ]
    runtime = platform.serving.runtime()
    lines = ["Session of a shopper:"]
    lines += [
        f"  {event['event_type']:<9} {name_of[event['product_id']]}"
        for event in events
        if event["event_type"] != "pageview" and event["product_id"]
    ]
    if platform.serving.describe(RECOMMEND):
        (answer,) = invoke(runtime, RECOMMEND, [events])
        lines += ["", "Boat recommends:"]
        lines += [f"  {rank:>2}. {name_of[item]}" for rank, item in enumerate(answer["product_id"][:10], start=1)]
    else:
        lines += ["", "Boat recommends: no model is live, see the gates of promote/latest."]
    if platform.serving.describe(INTENT):
        (chance,) = invoke(runtime, INTENT, [events])
        lines += ["", f"Purchase intent: {chance:.1%}"]
    else:
        lines += ["", "Purchase intent: no model is live, see the gates of promote/latest."]
    return lines


async def run(config: Settings, events: Path | None, max_bad_share: float) -> None:
    """Run ingestion, training and promotion one after the other, and print predictions."""
    shop = shop_of(events)
    await use_shop(config, shop)
    platform = await Platform.load("default")
    services.collect_into(config, platform.landing)
    print(f"Events: {events or f'a synthetic shop, {SESSIONS:,} sessions over {DAYS} days'}", flush=True)
    prepare_events(Path(platform.landing), events)
    async with get_client() as client:
        quarantine = {"on_bad_rows": "quarantine", "max_bad_share": max_bad_share} if events else {}
        await follow(client, await start(client, "ingestion/hourly", quarantine), "ingestion/hourly")
        before = datetime.now(UTC)
        parameters = {"max_minutes": TRAINING_MINUTES}
        await follow(client, await start(client, "retrain/nightly", parameters), "retrain/nightly")
        await follow(client, await promotion_after(client, before), "promote/latest")
    print("", *predict(platform), "", sep="\n", flush=True)


def main() -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events",
        type=Path,
        help="your own events: a Parquet, CSV or JSON file, or a folder (default: a synthetic shop)",
    )
    parser.add_argument(
        "--max-bad-share",
        type=float,
        default=BadRows().max_share,
        help="a file with more than 100 bad rows and a larger share of them stops the demo (default: %(default)s)",
    )
    options = parser.parse_args()
    return run_command(lambda: demonstrate(options.events, options.max_bad_share))


def demonstrate(events: Path | None, max_bad_share: float) -> int:
    """Start the services, run all flows and print the predictions. Return the exit status."""
    started = time.monotonic()
    if events is not None:
        print(landing.preview(events).to_text(), end="\n\n", flush=True)
    config = services.up(settings.load(), shop_of(events))
    with as_client(config):
        asyncio.run(run(config, events, max_bad_share))
    print(*services.addresses(config), sep="\n")
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. The services keep running. Next steps:\n"
        "  source .venv/bin/activate && prefect deployment run retrain/nightly\n"
        f"  visit the demo shop at {config.collect_url}, then run prefect deployment run ingestion/hourly\n"
        "  make status | make down"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
