"""A killed flow run cannot send an alert, so the server sends it."""

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def wait_for(condition: Any, seconds: float) -> Any:
    """Call `condition` until it returns a true value, and return that value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.5)
    pytest.fail(f"nothing after {seconds} s")


def test_a_killed_run_sends_an_alert_with_a_working_link(client: Installation, shop_files: Path) -> None:
    started = client.command("prefect", "deployment", "run", "ingestion/hourly", "-p", f"source={shop_files}")
    assert started.returncode == 0, started.stderr
    run_id = re.search(r"UUID: ([0-9a-f-]{36})", started.stdout).group(1)

    def process() -> int | None:
        run = client.api("GET", f"/flow_runs/{run_id}")
        return run["state_type"] == "RUNNING" and int(run["infrastructure_pid"].split(":")[1])

    os.kill(wait_for(process, 90), signal.SIGKILL)
    alert = wait_for(lambda: [alert for alert in client.alerts() if run_id in alert["message"]], 60)[0]

    assert "ingestion" in alert["message"]
    assert "Crashed" in alert["message"]
    link = re.search(rf"http://127\.0\.0\.1:\d+/flow-runs/flow-run/{run_id}", alert["message"]).group(0)
    page = httpx.get(link, follow_redirects=True)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert client.api("GET", f"/flow_runs/{run_id}")["state_name"] == "Crashed"
    # Exactly one message: the hook in the run ignores `Crashed`, because the server handles it.
    assert len([alert for alert in client.alerts() if run_id in alert["message"]]) == 1
