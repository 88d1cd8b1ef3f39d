"""The collector as one of the services: a page's events are in the raw log after the next ingestion."""

import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.blocks import Platform
from tests.installation import Installation, free_ports, running_installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def landing(installation: Installation) -> Path:
    """Return the landing folder of `ingestion/hourly`."""
    with installation.as_client():
        return Path(Platform.load("default").landing)


def wait_for_a_complete_file(landing: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(landing.glob("events/20*/*.ndjson")):
        assert time.monotonic() < deadline, "the collector hands no file over"
        time.sleep(0.2)


def test_an_event_of_a_shop_page_is_in_the_raw_log_after_the_next_ingestion(
    installation: Installation, landing: Path
) -> None:
    page = installation.settings.collect_url
    assert "boat.js" in httpx.get(page).text
    sent = [("look", "detail", "red-mug"), ("look again", "detail", "blue-mug"), ("put", "add", "blue-mug")]
    events = [
        {"event_id": name, "shop": "demo", "event_type": kind, "client_id": "mug-lover", "product_id": product}
        for name, kind, product in sent
    ]
    answer = httpx.post(f"{page}/collect", json=events, headers={"origin": page})
    assert answer.json()["accepted"] == 3
    wait_for_a_complete_file(landing)
    ran = installation.command("prefect", "deployment", "run", "ingestion/hourly", "--watch", timeout=280)
    assert "finished successfully" in ran.stdout, ran.stdout + ran.stderr
    with installation.as_client(), Platform.load("default").warehouse.transaction() as transaction:
        rows = transaction.query(
            "select event_id, event_type, product_id from raw.events where client_id = 'mug-lover'"
        ).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == sorted(sent)


def test_a_second_start_does_not_restart_the_collector(installation: Installation, landing: Path) -> None:
    before = installation.command("python", "-m", "deployments.services", "status").stdout
    again = installation.command("python", "-m", "deployments.services", "up", timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"Collector    {installation.settings.collect_url}" in again.stdout
    after = installation.command("python", "-m", "deployments.services", "status").stdout
    assert [line.split(",")[0] for line in before.splitlines()] == [line.split(",")[0] for line in after.splitlines()]


def test_a_port_set_while_services_run_is_named_with_the_next_step(installation: Installation) -> None:
    (free_port,) = free_ports(1)
    later = replace(installation, environment={**installation.environment, "BOAT_COLLECT_PORT": str(free_port)})
    again = later.command("python", "-m", "deployments.services", "up", timeout=120)
    assert again.returncode == 0, again.stderr
    used = installation.settings.collect_port
    line = f"BOAT_COLLECT_PORT={free_port} is not used: the service runs on port {used}. Run `make down` first."
    assert line in again.stdout.splitlines()
    assert httpx.get(f"{installation.settings.collect_url}/ping").status_code == 200


def test_services_start_in_an_odd_folder_with_proxies_and_variables_of_other_programs(tmp_path: Path) -> None:
    nothing_listens = "http://127.0.0.1:9"
    home = tmp_path / "50% (off) 'q' \"d\" ü;"
    home.mkdir()
    extra_variables = {
        "HTTP_PROXY": nothing_listens,
        "https_proxy": nothing_listens,
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_API_KEY": "pnu_key",
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/prefect.db",
        "MLFLOW_TRACKING_URI": nothing_listens,
        "DBT_PROFILES_DIR": "/nowhere",
        "UVICORN_PORT": "9",
    }
    with running_installation(home, extra_variables) as installation:
        status = installation.command("python", "-m", "deployments.services", "status")
        assert status.stdout.count("RUNNING") == 5, status.stdout
        deployed = installation.api("POST", "/deployments/filter", json={})
        assert {"hourly", "nightly", "latest"} <= {deployment["name"] for deployment in deployed}
