"""The endpoint host as a separate process on a free port."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_host(state: Path, port: int, seconds: float = 60) -> Iterator[subprocess.Popen[bytes]]:
    """Start a host, and stop it at the end."""
    command = [sys.executable, "-m", "boat.serving.host", "--port", str(port), "--state", str(state)]
    process = subprocess.Popen(command)
    try:
        _wait(process, port, time.monotonic() + seconds)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the host ended with {process.returncode}"
        try:
            httpx.get(f"http://127.0.0.1:{port}/ping", timeout=1)
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError("the host does not listen")
