"""The progress of a long step: reported where the work is done, followed by a flow, a job or a terminal.

with progress.follow(show):
    progress.report("events.csv", 30, 100, "rows")  # anywhere below, in the same thread
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass

from boat import memory

_BAR = 20  # characters
_LEAST_SECONDS, _LEAST_SHARE = 3.0, 0.01  # before, an estimate of the time left says nothing
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        stage: What is being done, such as a file.
        done: Amount that is done, in `unit`.
        total: Amount of the whole step; 0 if it is unknown.
        unit: What is counted, such as `rows`. `bytes` are shown as MB or GB; an empty unit is only a share.
    """

    stage: str
    done: float = 0.0
    total: float = 0.0
    unit: str = ""

    @property
    def share(self) -> float | None:
        """Return the part that is done, from 0 to 1; `None` if the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total else None


Follower = Callable[[Progress], None]
_follower: ContextVar[Follower | None] = ContextVar("follower", default=None)


@contextmanager
def follow(follower: Follower) -> Iterator[None]:
    """Pass each report of the block to a function."""
    token = _follower.set(follower)
    try:
        yield
    finally:
        _follower.reset(token)


def report(stage: str, done: float = 0.0, total: float = 0.0, unit: str = "") -> None:
    """Report how far the present step is. Without a follower nothing happens."""
    pass_on(Progress(stage, done, total, unit))


def pass_on(progress: Progress) -> None:
    """Report progress that another process has reported."""
    follower = _follower.get()
    if follower:
        follower(progress)


@contextmanager
def polled(poll: Callable[[], None], seconds: float = _POLL_SECONDS) -> Iterator[None]:
    """Call a function that reports progress from another thread, as long as the block runs and someone follows."""
    if _follower.get() is None:
        yield
        return

    def run() -> None:
        while not ended.wait(seconds):
            poll()

    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Speed:
    """Describes the progress of a step with its speed and the time left, from its reports.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first = self._last = Progress("")
        self._began = clock()

    def line(self, progress: Progress) -> str:
        """Return a bar and the description, for a terminal or a log."""
        text = self.describe(progress)
        return text if progress.share is None else f"{bar(progress.share)}  {text}"

    def describe(self, progress: Progress) -> str:
        """Return the stage, the amount, the speed and the time left as text."""
        same = (progress.total, progress.unit) == (self._last.total, self._last.unit)
        if not same or progress.done < self._last.done:
            self._first, self._began = progress, self._clock()
        self._last = progress
        seconds, moved = self._clock() - self._began, progress.done - self._first.done
        parts = [_amount(progress)] if progress.total else []
        if progress.total and seconds >= _LEAST_SECONDS and moved >= _LEAST_SHARE * progress.total:
            if progress.unit:
                parts.append(f"{_number(moved / seconds, progress.unit)}/s")
            parts.append(f"{_duration((progress.total - progress.done) * seconds / moved)} left")
        return f"{progress.stage}: {', '.join(parts)}" if parts else progress.stage


def bar(share: float) -> str:
    """Return a bar of characters."""
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {share:4.0%}"


@contextmanager
def on_terminal() -> Iterator[None]:
    """Show the progress of the block in the last line of the terminal. Without a terminal nothing is printed."""
    if not sys.stderr.isatty():
        yield
        return
    speed = Speed()

    def show(progress: Progress) -> None:
        print(f"\r\x1b[K{speed.line(progress)}", end="", file=sys.stderr, flush=True)

    try:
        with follow(show):
            yield
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _amount(progress: Progress) -> str:
    if not progress.unit:
        return f"{progress.share or 0:.0%}"
    return f"{_number(progress.done, progress.unit, '')} of {_number(progress.total, progress.unit)}"


def _number(value: float, unit: str, shown_unit: str | None = None) -> str:
    if unit == "bytes":
        return memory.shown(value)
    named = unit if shown_unit is None else shown_unit
    return f"{value:,.0f} {named}".rstrip() if value >= 10 or value == int(value) else f"{value:.1f} {named}".rstrip()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
