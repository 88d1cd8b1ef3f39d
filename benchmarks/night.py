"""Run whole nights through the deployments, and print the time, the CPU time and the memory of each step.

The path is that of `make demo`: the services of a new home, their blocks, worker and deployments. First come all
events: ingestion, training of both kinds, evaluation, release. Then one more hour of events is ingested, and one more
day goes through a whole night. Memory is the proportional set size (PSS) of all processes of the home, which counts
shared pages once. It is read once a second. The CPU time of a process after its last reading is lost.

    python benchmarks/night.py [--events 2000000] [--memory 6GB] [--files FOLDER] [--minutes 10]
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import psutil
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from bars import at_most, conclude
from boat import memory, settings, synthetic
from boat.settings import Settings

sys.path.insert(0, str(Path(__file__).parent.parent))  # deployments are not installed
from deployments import services
from deployments.demo import follow, promotion_after, start
from deployments.environment import as_client

EVENTS_PER_SESSION, DAYS = 7.31, 90
LAST_DAY = date(2026, 3, 31)
MEMORY_LIMIT_GB = 8.0
_INTERVAL_SECONDS = 1.0
_SHORT_SECONDS = 1.0  # shorter steps are printed, but they are not among the figures


@dataclass(frozen=True)
class Reading:
    """Memory and CPU time of all processes at a time."""

    at: datetime
    bytes: int
    cpu_seconds: float


class Meter:
    """Reads memory and CPU time of the processes of a home in a thread."""

    def __init__(self, home: Path) -> None:
        self._home = str(home)
        self._readings: list[Reading] = []
        self._cpu: dict[psutil.Process, float] = {}
        self._own: dict[psutil.Process, bool] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            total = 0
            for process in psutil.process_iter():
                try:
                    if process not in self._own:
                        self._own[process] = self._belongs(process)
                    if not self._own[process]:
                        continue
                    total += process.memory_full_info().pss
                    times = process.cpu_times()
                    self._cpu[process] = times.user + times.system
                except (psutil.Error, FileNotFoundError, ProcessLookupError):  # it has ended
                    continue
            self._readings.append(Reading(datetime.now(UTC), total, sum(self._cpu.values())))

    def _belongs(self, process: psutil.Process) -> bool:
        # A job has no settings in its environment; its parents have.
        lineage = [process, *process.parents()]
        return any(member.environ().get("BOAT_HOME") == self._home for member in lineage if member.pid > 1)

    def between(self, begin: datetime, end: datetime) -> tuple[float, float]:
        """Return the peak memory in GB and the CPU seconds between two times."""
        inside = [reading for reading in self._readings if begin <= reading.at <= end]
        if not inside:
            return 0.0, 0.0
        peak = max(reading.bytes for reading in inside) / 1e9
        return round(peak, 2), round(inside[-1].cpu_seconds - inside[0].cpu_seconds, 1)

    @property
    def peak_gb(self) -> float:
        """Return the peak memory of all time in GB."""
        return round(max(reading.bytes for reading in self._readings) / 1e9, 2)


@contextmanager
def installed(home: Path, budget: str) -> Iterator[Settings]:
    """Start the services of a home on free ports, with a memory budget. Stop them at the end."""
    os.environ |= {"BOAT_HOME": str(home), "BOAT_MEMORY": budget}
    config = settings.load()
    try:
        config = services.up(config, "shop")
        yield config
    finally:
        services.down(config)


async def steps(client: PrefectClient, run: FlowRun, meter: Meter) -> dict[str, dict[str, float]]:
    """Return seconds, CPU seconds and peak memory of each task of a flow run."""
    tasks = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    figures = {}
    for task in sorted(tasks, key=lambda task: task.start_time or task.created):
        if not task.start_time or not task.end_time:
            continue
        peak, cpu = meter.between(task.start_time, task.end_time)
        name = "load" if task.name.startswith("load ") else task.name
        seconds = round(task.total_run_time.total_seconds(), 1)
        figures[name] = {"seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak}
    return figures


async def nights(folders: dict[str, Path], minutes: float, meter: Meter) -> dict[str, dict[str, dict[str, float]]]:
    """Run the first night, the hour and the second night. Return the figures of each step by flow run."""
    figures: dict[str, dict[str, dict[str, float]]] = {}

    async def run(client: PrefectClient, title: str, deployment: str, **parameters: Any) -> None:
        await show(client, title, await follow(client, await start(client, deployment, parameters), title))

    async def show(client: PrefectClient, title: str, ended: FlowRun) -> None:
        figures[title] = await steps(client, ended, meter)
        for step, values in figures[title].items():
            columns = "{seconds:8.1f} s {cpu_seconds:8.1f} s CPU {peak_gb:6.2f} GB".format(**values)
            print(f"{title:24} {step:32} {columns}", file=sys.stderr, flush=True)

    async with get_client() as client:
        for name, folder in folders.items():
            await run(client, f"{name}: ingestion", "ingestion/hourly", source=str(folder))
            if name != "hour":
                before = datetime.now(UTC)
                await run(client, f"{name}: retrain", "retrain/nightly", max_minutes=minutes)
                title = f"{name}: promote"
                await show(client, title, await follow(client, await promotion_after(client, before), title))
        await run(client, "nothing new: ingestion", "ingestion/hourly", source=str(folders["day"]))
    return figures


def generated(folder: Path, events: int) -> dict[str, Path]:
    """Write the events of the first night, of the hour and of the day after it, unless they are there."""
    end_of_first = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC) - timedelta(days=1)
    bounds = [0.0, *((end_of_first + timedelta(hours=hours)).timestamp() * 1000 for hours in (0, 1, 25))]
    folders = {name: folder / name for name in ("first", "hour", "day")}
    if all(path.exists() for path in folders.values()):
        return folders
    whole = folder / "whole"
    sessions = round(events / EVENTS_PER_SESSION * (DAYS + 2) / DAYS)
    synthetic.generate(whole, sessions=sessions, days=DAYS + 2, seed=7, products=57_000, end=LAST_DAY)
    for path, (begin, end) in zip(folders.values(), pairwise(bounds), strict=True):
        path.mkdir()
        for name in ("browsing_train.csv", "search_train.csv"):
            duckdb.sql(
                f"""copy (select * from read_csv('{whole / name}', all_varchar = true)
                where server_timestamp_epoch_ms::bigint between {begin:.0f} and {end - 1:.0f})
                to '{path / name}' (header)"""
            )
    for name in ("sku_to_content.csv", "product_names.csv"):
        (whole / name).rename(folders["first"] / name)
    shutil.rmtree(whole)
    return folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--memory", default="6GB", help="BOAT_MEMORY")
    parser.add_argument("--minutes", type=float, default=10, help="longest training time of each kind")
    parser.add_argument("--files", type=Path, help="folder of the data sets, created if it is missing")
    options = parser.parse_args()
    memory.parse(options.memory, "--memory")
    with tempfile.TemporaryDirectory(prefix="boat-night-") as name:
        folders = generated(options.files or Path(name) / "files", options.events)
        home = Path(name) / "home"
        with installed(home, options.memory) as config, Meter(home) as meter, as_client(config):
            began = time.monotonic()
            by_run = asyncio.run(nights(folders, options.minutes, meter))
            seconds = round(time.monotonic() - began, 1)
    first = by_run["first: ingestion"]
    base = first["load"]["seconds"] + first["dbt build"]["seconds"]
    figures: dict[str, float | str] = {"seconds": seconds, "load_and_build_seconds": round(base, 1)}
    figures["peak_gb"] = meter.peak_gb
    for run, of_steps in by_run.items():
        for step, values in of_steps.items():
            label = re.sub(r"[^a-z]+", "_", f"{run} {step}".lower()).strip("_")
            if values["seconds"] >= _SHORT_SECONDS:
                figures |= {f"{label}_{figure}": value for figure, value in values.items()}

    def share(run: str, *names: str) -> float:
        chosen = [values["seconds"] for step, values in by_run[run].items() if not names or step in names]
        return round(sum(chosen) / base, 3)

    bars = (
        at_most("peak_gb", meter.peak_gb, MEMORY_LIMIT_GB),
        at_most("quality_share", share("first: ingestion", "check quality"), 1 / 8),
        at_most("snapshot_share", share("first: retrain", "take snapshot"), 1 / 8),
        at_most("kpis_share", share("first: ingestion", "publish KPIs"), 1 / 8),
        at_most("hour_share", share("hour: ingestion"), 1 / 8),
        at_most("next_night_ingestion_share", share("day: ingestion"), 1 / 10),
    )
    return conclude("night", figures, *bars)


if __name__ == "__main__":
    sys.exit(main())
