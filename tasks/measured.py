"""The table of a flow run's steps in the UI: progress, time, CPU time, memory. It changes while the steps run."""

import functools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import psutil
from prefect import get_run_logger, runtime

from boat import memory, progress
from boat.progress import Progress, Speed
from tasks.blocks import Platform
from tasks.live import LiveArtifact

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_LOG_SECONDS = 15
"""Pause before the first and between two log lines of progress."""
_READ_SECONDS = 0.5


@dataclass(frozen=True)
class Usage:
    """Resources that a step used.

    Attributes:
        seconds: Duration.
        cpu_seconds: CPU time of this process and of the processes that it started.
        peak_bytes: Largest resident memory of these processes together, read twice a second.
        spilled_bytes: Largest size of DuckDB's spill files; `None` for a warehouse without them.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    spilled_bytes: int | None

    @property
    def text(self) -> str:
        """Return the figures as text."""
        spilled = f", {memory.shown(self.spilled_bytes)} spilled to disk" if self.spilled_bytes else ""
        return f"{self.seconds:,.1f} s, {self.cpu_seconds:,.1f} s of CPU, {memory.shown(self.peak_bytes)}{spilled}"


class Meter:
    """Measures a block of code in a thread.

    Args:
        spill_folder: Folder of DuckDB's spill files, or `None`.
    """

    def __init__(self, spill_folder: Path | None) -> None:
        self._folder = spill_folder
        self._peak = self._spilled = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Meter":
        self._began, self._cpu = time.monotonic(), _cpu_seconds()
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._read()
        self.usage = Usage(
            time.monotonic() - self._began,
            _cpu_seconds() - self._cpu,
            self._peak,
            None if self._folder is None else self._spilled,
        )

    def _run(self) -> None:
        while not self._ended.wait(_READ_SECONDS):
            self._read()

    def _read(self) -> None:
        self._peak = max(self._peak, _resident_bytes())
        self._spilled = max(self._spilled, _size(self._folder))


class _Steps:
    """The rows of one flow run. Steps can run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.usages: dict[str, Usage] = {}
        self._rows: dict[str, str] = {}
        self._artifact = LiveArtifact("steps", "Progress, time, CPU time and memory of each step")

    def show(self, step: str, row: str, *, now: bool = False) -> None:
        """Replace the row of a step and publish the table."""
        with self._lock:
            self._rows[step] = row
            self._artifact.update(self._table, now=now)

    def _table(self) -> str:
        head = ["| step | time | CPU time | memory | spilled | progress |", "|---|---|---|---|---|---|"]
        return "\n".join([*head, *(f"| {step} | {row} |" for step, row in self._rows.items())])


_steps: defaultdict[str, _Steps] = defaultdict(_Steps)
"""The steps of each flow run of this process, by its id."""


def measured(
    step: Callable[Concatenate[Platform, _Arguments], _Result],
) -> Callable[Concatenate[Platform, _Arguments], _Result]:
    """Measure a task and show its progress: in the artifact `steps` of its flow run, and in its log."""

    @functools.wraps(step)
    def run(platform: Platform, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        steps, name, logger = _steps[str(runtime.flow_run.id)], str(runtime.task_run.name), get_run_logger()
        speed, logged = Speed(), time.monotonic()

        def show(state: Progress) -> None:
            nonlocal logged
            bar = (
                "" if state.share is None else f'<progress value="{state.share:.2f}"></progress> {state.share:.0%}<br>'
            )
            steps.show(name, f"| | | | {bar}{speed.describe(state).replace(': ', '<br>')}")
            if time.monotonic() - logged >= _LOG_SECONDS:
                logged = time.monotonic()
                logger.info(speed.line(state))

        outcome = "failed"
        meter = Meter(platform.warehouse.spill_folder)
        try:
            with meter, progress.follow(show):
                result = step(platform, *args, **kwargs)
            outcome = "done"
            return result
        finally:
            usage = steps.usages[name] = meter.usage
            spilled = "" if usage.spilled_bytes is None else memory.shown(usage.spilled_bytes)
            row = f"{usage.seconds:,.1f} s | {usage.cpu_seconds:,.1f} s | {memory.shown(usage.peak_bytes)} | {spilled}"
            steps.show(name, f"{row} | {outcome}", now=True)
            logger.info("%s: %s", name, usage.text)

    return run


def usages() -> Mapping[str, Usage]:
    """Return what the measured steps of this flow run have used, by name."""
    return _steps[str(runtime.flow_run.id)].usages


def _processes() -> list[psutil.Process]:
    own = psutil.Process(os.getpid())
    return [own, *own.children(recursive=True)]


def _resident_bytes() -> int:
    total = 0
    for process in _processes():
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has ended
            continue
    return total


def _cpu_seconds() -> float:
    times = psutil.Process(os.getpid()).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _size(folder: Path | None) -> int:
    total = 0
    for path in folder.glob("*") if folder else ():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # DuckDB has deleted it
            continue
    return total
