"""The collector as a separate process on a free port."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.serving.running_host import free_port

SECRET = "a-secret-of-the-shop"


@dataclass
class Collecting:
    """A running collector."""

    process: "subprocess.Popen[bytes]"
    port: int
    landing: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: object, **headers: str) -> httpx.Response:
        """Send JSON."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}/collect", json=body, headers=names, timeout=30)

    def rss_mb(self) -> float:
        """Return the peak memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """Stop the process as an operator does."""
        self.process.terminate()
        assert self.process.wait(30) in {0, -15}

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def running_collector(
    landing: Path, *options: str, port: int | None = None, keys: str = f"shop-server:{SECRET}"
) -> Iterator[Collecting]:
    """Start a collector for a landing folder. Tests may kill it."""
    port = port or free_port()
    command = [sys.executable, "-m", "boat", "collect", "--landing", str(landing), "--port", str(port), *options]
    process = subprocess.Popen(command, env={**os.environ, "BOAT_COLLECT_KEYS": keys}, stdout=subprocess.DEVNULL)
    try:
        _wait(process, port, time.monotonic() + 60)
        yield Collecting(process, port, landing)
    finally:
        process.kill()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", port: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the collector ended with {process.returncode}"
        try:
            httpx.get(f"http://127.0.0.1:{port}/ping", timeout=1)
            return
        except httpx.HTTPError:
            time.sleep(0.03)
    raise TimeoutError("the collector does not listen")


def lines(landing: Path) -> list[dict[str, Any]]:
    """Return all events in complete landing files."""
    return _read(path for path in (landing / "events").glob("*/*.ndjson") if not path.parent.name.startswith("."))


def dead_letters(landing: Path) -> list[dict[str, Any]]:
    """Return all dead letters in complete files."""
    return _read((landing / "events" / ".dead-letter").glob("*/*.ndjson"))


def counted_ids(landing: Path) -> Counter[str]:
    """Count each event in the landing files."""
    return Counter(line["event_id"] for line in lines(landing))


def _read(paths: Iterator[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(paths) for line in path.read_text(encoding="utf-8").splitlines()]
