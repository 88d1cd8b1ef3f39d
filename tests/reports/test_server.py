"""The reports server shows the reports of flows and receives alerts with any content."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apprise
import httpx
import pytest
from starlette.testclient import TestClient

from boat.reports import server
from tests.serving.running_host import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(server.application(folder)) as client:
        yield client


def test_an_empty_folder_has_an_index_that_names_the_flows(client: TestClient) -> None:
    assert "No reports yet" in client.get("/").text
    assert "No alerts yet" in client.get("/alerts").text


def test_the_index_links_to_each_report_once(client: TestClient, folder: Path) -> None:
    for page in ("shop/data_docs/index.html", "shop/data_docs/suite/one.html", "shop/cards/boat-recommend-1.html"):
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        (folder / page).write_text(f"<h1>{page}</h1>")
    index = client.get("/").text
    links = [part.split('"')[0] for part in index.split('href="')[1:]]
    assert sorted(links) == ["/alerts", "/shop/cards/boat-recommend-1.html", "/shop/data_docs/index.html"]
    assert "shop / data docs" in index
    assert all(client.get(link).status_code == 200 for link in links)


@pytest.mark.parametrize("path", ["/../secret.html", "/%2e%2e/secret.html", "/shop/../../secret.html", "/link.html"])
def test_files_outside_the_folder_are_not_served(client: TestClient, folder: Path, path: str) -> None:
    (folder.parent / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(folder.parent / "secret.html")
    assert client.get(path).status_code == 404


def test_alerts_are_shown_newest_first(client: TestClient) -> None:
    for number in (1, 2):
        assert client.post("/alerts", json={"title": f"alert {number}", "message": "m", "type": "failure"}).is_success
    page = client.get("/alerts").text
    assert page.index("alert 2") < page.index("alert 1")


def test_an_alert_is_escaped_and_only_web_addresses_are_links(client: TestClient) -> None:
    message = (
        "<script>alert(1)</script> <http://127.0.0.1:4200/runs/1|View in Prefect> see https://x.test/a?b=1&c=2\n"
        '<javascript:alert(2)|no> javascript:alert(3) https://x.test/"onclick=alert(4)'
    )
    client.post("/alerts", json={"title": "<b>t</b>", "message": message, "type": "<i>"})
    page = client.get("/alerts").text
    assert "<script" not in page
    assert "<b>" not in page
    assert "<i>" not in page
    assert '<a href="http://127.0.0.1:4200/runs/1">View in Prefect</a>' in page
    assert '<a href="https://x.test/a?b=1&amp;c=2">' in page
    assert 'href="javascript' not in page
    assert 'onclick="' not in page


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'"text"', b"\xff", b"[" * 60_000, b'{"other": 1}'])
def test_an_invalid_alert_is_refused(client: TestClient, folder: Path, body: bytes) -> None:
    response = client.post("/alerts", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert not (folder / "alerts.ndjson").exists()


def test_a_large_alert_and_an_alert_from_a_form_are_refused(client: TestClient) -> None:
    large = {"title": "t", "message": "x" * server.MAX_ALERT_BYTES}
    assert client.post("/alerts", json=large).status_code == 413
    assert client.post("/alerts", content=json.dumps({"title": "t"})).status_code == 415


def test_a_full_inbox_is_rotated(client: TestClient, folder: Path) -> None:
    inbox = folder / "alerts.ndjson"
    old = json.dumps({"received_at": "", "title": "old", "message": "x" * 1000, "type": "info"}) + "\n"
    inbox.write_text(old * (server.MAX_INBOX_BYTES // 1000))
    client.post("/alerts", json={"title": "new", "message": "m", "type": "info"})
    assert [json.loads(line)["title"] for line in inbox.read_text().splitlines()] == ["new"]
    assert (folder / "alerts.old.ndjson").exists()


def test_an_incomplete_line_affects_no_other_alert(client: TestClient, folder: Path) -> None:
    client.post("/alerts", json={"title": "first", "message": "m", "type": "info"})
    with (folder / "alerts.ndjson").open("a") as inbox:
        inbox.write('{"title": "to')
    client.post("/alerts", json={"title": "second", "message": "m", "type": "info"})
    page = client.get("/alerts").text
    assert "first" in page
    assert "second" in page


def test_apprise_delivers_to_a_running_server(folder: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "boat.reports.server", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}/alerts"
        _wait(address)
        sender = apprise.Apprise()
        sender.add(f"json://127.0.0.1:{port}/alerts")
        assert asyncio.run(sender.async_notify(body="<http://x.test/1|View>", title="retrain failed"))
        page = httpx.get(address).text
        assert "retrain failed" in page
        assert '<a href="http://x.test/1">View</a>' in page
    finally:
        process.terminate()
        process.wait(10)


def _wait(address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(address)
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError(address)
