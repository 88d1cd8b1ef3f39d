"""Jobs as subprocesses of this machine."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from boat.compute.base import LAST_LINES, JobResult, JobSpec
from boat.compute.guard import RESOURCES
from boat.compute.staging import fetch_inputs, publish_outputs
from boat.errors import SettingError, ended

_GUARD = Path(__file__).with_name("guard.py")
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")
_POLL_SECONDS = 0.5  # an interruption reaches a thread only between two waits
_CORES = 2  # that one training uses well


class LocalCompute:
    """Runs each job with this interpreter, in a separate process group and a clean environment.

    Args:
        url: `local:`, or `local:?max_parallel=2` to run two jobs at once. The default is one job for every two cores.

    Raises:
        SettingError: The URL has another option, or `max_parallel` is not a number above 0.
    """

    def __init__(self, url: str = "local:") -> None:
        self.url = url
        options = parse_qs(urlsplit(url).query, keep_blank_values=True)
        max_parallel = options.pop("max_parallel", [str(max(1, (os.cpu_count() or 1) // _CORES))])[-1]
        if options or not max_parallel.isdecimal() or max_parallel == "0":
            raise SettingError(
                f"The compute URL {url!r} is not valid: its only option is max_parallel, a whole number above 0.",
                "Write it like local:?max_parallel=2.",
            )
        self.max_parallel = int(max_parallel)

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: threading.Event | None = None) -> JobResult:
        """Run a job to its end; see `boat.compute.base.Compute.run`.

        Inputs on S3 are downloaded before the job and outputs are uploaded after it, so the job needs no rights on S3.
        """
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="boat-job-") as folder:
            local = fetch_inputs(spec, Path(folder))
            resources = _run(local, on_line, stop)
            publish_outputs(spec, local)
        return JobResult(spec.name, round(time.monotonic() - began, 2), **resources)


def _run(spec: JobSpec, on_line: Callable[[str], None], stop: threading.Event | None) -> dict[str, Any]:
    """Run a job to its end and return what it used."""
    resources: dict[str, Any] = {}

    def pass_on(line: str) -> None:
        if line.startswith(RESOURCES):
            resources.update(json.loads(line.removeprefix(RESOURCES)))
        else:
            last.append(line)
            on_line(line)

    last: deque[str] = deque(maxlen=LAST_LINES)
    deadline = time.monotonic() + spec.timeout_seconds
    with _start(spec) as process:
        try:
            finished = _follow(process, deadline, pass_on, lambda: spec.check(stop))
        finally:
            _end_group(process)
    if not finished:
        raise spec.failure(f"ran longer than {spec.timeout_seconds} s and was killed", last)
    if process.returncode:
        raise spec.failure(ended(process.returncode), last)
    return resources


def _start(spec: JobSpec) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARD), sys.executable, "-u", *spec.command()],
        stdin=subprocess.PIPE,  # never written: the guard kills the job when it closes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(spec.environment),
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the few variables that any program needs, without the settings and secrets of the caller."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUTF8": "1", **extra}


def _follow(
    process: "subprocess.Popen[str]",
    deadline: float,
    on_line: Callable[[str], None],
    check: Callable[[], None],
) -> bool:
    """Pass on the job's lines until it ends. Return False if it still runs at the deadline."""
    assert process.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while time.monotonic() < deadline:
        check()
        try:
            line = lines.get(timeout=min(_POLL_SECONDS, max(deadline - time.monotonic(), 0.01)))
        except queue.Empty:
            if process.poll() is not None:
                _end_group(process)  # a process that the job left behind holds the output open
            continue
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0))
                return True
            return False
        on_line(line)
    return False


def _read(stream: Iterable[str], lines: "queue.SimpleQueue[str | None]") -> None:
    try:
        for line in stream:
            lines.put(line.rstrip("\n"))
    finally:
        lines.put(None)


def _end_group(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the second for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
