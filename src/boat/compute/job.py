"""The steps in a job's container: download the inputs, run the job, upload the outputs."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from boat.compute.base import JobSpec
from boat.compute.staging import fetch_inputs, publish_outputs, synced_checkpoint
from boat.errors import BoatError

END = "boat-job ended"
"""Last line of the container's log. It tells the reader that the log is complete."""

_GRACE_SECONDS = 60
"""The caller kills a job at its time-out. If the caller has died, the job kills itself this much later."""


def main(fields: Mapping[str, Any], folder: str) -> int:
    """Run a job and return its exit code.

    Args:
        fields: Fields of its `JobSpec`.
        folder: Folder for its files.
    """
    signal.signal(signal.SIGTERM, _stop)  # sent before a host is reclaimed, and to cancel a job
    spec = JobSpec(**fields)
    try:
        local = fetch_inputs(spec, Path(folder) / "work")
        with synced_checkpoint(spec.checkpoint, Path(local.checkpoint)):
            code = _run(local)
        if code == 0:
            publish_outputs(spec, local)
    except BoatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    sys.stderr.flush()
    print(END, flush=True)
    return code


def _run(spec: JobSpec) -> int:
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUTF8": "1", **os.environ}
    process = subprocess.Popen([sys.executable, "-u", *spec.command()], stdin=subprocess.DEVNULL, env=environment)
    try:
        code = process.wait(spec.timeout_seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"The job was killed after {spec.timeout_seconds + _GRACE_SECONDS} s.", file=sys.stderr)
        code = 124
    finally:
        process.kill()
        process.wait()
    return code if code >= 0 else 128 - code


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
