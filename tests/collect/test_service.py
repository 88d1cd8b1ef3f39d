"""The collector beside the other services: what a page sends is in the raw log after the next ingestion."""

import time
from pathlib import Path

import httpx
import pytest

from tasks.blocks import Platform
from tests.installation import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def landing(installation: Installation) -> Path:
    """Where `ingestion/hourly` looks for files."""
    with installation.as_client():
        return Path(Platform.load("default").landing)


def wait_for_a_complete_file(landing: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(landing.glob("events/20*/*.ndjson")):
        assert time.monotonic() < deadline, "the collector hands no file over"
        time.sleep(0.2)


def test_an_event_that_a_shop_page_sends_is_in_the_raw_log_after_the_next_ingestion(
    installation: Installation, landing: Path
) -> None:
    page = installation.settings.collect_url
    assert "boat.js" in httpx.get(page).text
    told = [("look", "detail", "red-mug"), ("look again", "detail", "blue-mug"), ("put", "add", "blue-mug")]
    events = [
        {"event_id": name, "shop": "mugs", "event_type": kind, "client_id": "c", "product_id": product}
        for name, kind, product in told
    ]
    answer = httpx.post(f"{page}/collect", json=events, headers={"origin": page})
    assert answer.json()["accepted"] == 3
    wait_for_a_complete_file(landing)
    ran = installation.command("prefect", "deployment", "run", "ingestion/hourly", "--watch", timeout=280)
    assert "finished successfully" in ran.stdout, ran.stdout + ran.stderr
    with installation.as_client(), Platform.load("default").warehouse.session() as session:
        rows = session.query("select event_id, event_type, product_id from raw.events where shop = 'mugs'").to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == sorted(told)


def test_starting_again_leaves_the_collector_where_it_is(installation: Installation, landing: Path) -> None:
    before = installation.command("python", "-m", "deployments.services", "status").stdout
    again = installation.command("python", "-m", "deployments.services", "up", timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"Collector    {installation.settings.collect_url}" in again.stdout
    after = installation.command("python", "-m", "deployments.services", "status").stdout
    assert [line.split(",")[0] for line in before.splitlines()] == [line.split(",")[0] for line in after.splitlines()]
