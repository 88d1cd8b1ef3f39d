"""A complete installation for tests: services under supervisord on free ports, in a temporary home."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL, temporary_settings

from boat.settings import Settings
from tasks.blocks import Platform
from tests.conftest import ROOT


@dataclass(frozen=True)
class Installation:
    """Running services, with methods to call them."""

    settings: Settings
    environment: Mapping[str, str]

    def command(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a program of the virtual environment in the environment of this installation."""
        program = Path(sys.executable).with_name(words[0])
        return subprocess.run(
            [str(program), *words[1:]],
            env=dict(self.environment),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    def api(self, method: str, path: str, **options: Any) -> Any:
        """Call the Prefect API."""
        answer = httpx.request(method, f"{self.settings.prefect_api_url}{path}", timeout=30, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts in the inbox, oldest first."""
        inbox = self.settings.reports / "alerts.ndjson"
        return [json.loads(line) for line in inbox.read_text().splitlines()] if inbox.exists() else []

    def platform(self, shop: str) -> Platform:
        """Save a platform block of this name, for an empty shop on the same services, and return it."""
        platform = Platform.on_laptop(self.settings, shop)
        platform.save(shop, overwrite=True)
        # dbt's documentation is the same for all shops, and takes seconds to build.
        for page in self.settings.reports.glob("*/dbt.*"):
            Path(platform.reports).mkdir(parents=True, exist_ok=True)
            shutil.copy(page, platform.reports)
        return platform

    @contextmanager
    def as_client(self) -> Iterator[None]:
        """Send the runs of flows that are called in this process to this installation."""
        with temporary_settings(
            {
                PREFECT_API_URL: self.settings.prefect_api_url,
                PREFECT_UI_URL: self.settings.prefect_ui_url,
                PREFECT_HOME: self.settings.home / "prefect",
            }
        ):
            yield


def free_ports(count: int) -> Sequence[int]:
    """Return free ports."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def running_installation(folder: Path, extra: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """Start all services in `folder`, with `extra` in their environment. Stop them at the end."""
    prefect, endpoint, reports, collect = free_ports(4)
    settings = Settings(
        folder / "boat", prefect_port=prefect, endpoint_port=endpoint, reports_port=reports, collect_port=collect
    )
    environment = {
        "HOME": str(folder / "user"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "BOAT_HOME": str(settings.home),
        "BOAT_PREFECT_PORT": str(prefect),
        "BOAT_ENDPOINT_PORT": str(endpoint),
        "BOAT_REPORTS_PORT": str(reports),
        "BOAT_COLLECT_PORT": str(collect),
        **(extra or {}),
    }
    (folder / "user").mkdir()
    installation = Installation(settings, environment)
    try:
        started = installation.command("python", "-m", "deployments.services", "up", timeout=240)
        assert started.returncode == 0, started.stderr
        yield installation
    finally:
        installation.command("python", "-m", "deployments.services", "down", timeout=120)
