"""Progress of a job: JSON on marked lines of its output, so that it needs no server."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from boat.errors import BoatError
from boat.progress import Follower, Progress, follow

_MARK, _STAGE_MARK = "boat-progress ", "boat-stage "
_PAUSE_SECONDS = 2.0


def report(**fields: Any) -> None:
    """Print the figures of an epoch, such as `report(epoch=3, validation_mrr=0.21)`."""
    print(_MARK + json.dumps(fields), flush=True)


def parse(line: str) -> dict[str, Any] | None:
    """Return the fields of an epoch's line, or None for any other line."""
    if not line.startswith(_MARK):
        return None
    fields: dict[str, Any] = json.loads(line[len(_MARK) :])
    return fields


def run_as_job(run: Callable[[], None]) -> int:
    """Run a job and print its progress. Return its exit code: 1 after an error, which the last line names."""
    try:
        with follow(stages()):
            run()
    except BoatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def stages(clock: Callable[[], float] = time.monotonic) -> Follower:
    """Return a follower of `boat.progress` that prints each new stage, and every two seconds how far it is."""
    stage, last = "", 0.0

    def show(progress: Progress) -> None:
        nonlocal stage, last
        if progress.stage == stage and clock() - last < _PAUSE_SECONDS:
            return
        stage, last = progress.stage, clock()
        print(_STAGE_MARK + json.dumps(asdict(progress)), flush=True)

    return show


def parse_stage(line: str) -> Progress | None:
    """Return the progress on a line of `stages`, or None for any other line."""
    return Progress(**json.loads(line[len(_STAGE_MARK) :])) if line.startswith(_STAGE_MARK) else None
