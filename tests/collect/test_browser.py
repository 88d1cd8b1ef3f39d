"""The demo shop and the snippet in a real browser."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.collect.running_collector import Collecting, lines, running_collector
from tests.serving.running_host import free_port

pytestmark = pytest.mark.ui

SHOPPING = """
<script>addEventListener("load", () => {
  for (const id of ["look-blue-mug", "add-blue-mug", "add-red-mug"]) document.getElementById(id).click();
  const search = document.forms[0];
  search.elements.query.value = "mugs for bob@mugs.example";
  search.requestSubmit();
  document.getElementById("buy").click();
});</script>
"""


@pytest.fixture
def chromium() -> str:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine")
    return browser


def visit(chromium: str, url: str, profile: Path) -> str:
    """Open a page, wait until its requests have ended, and return its DOM."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--disable-component-update", f"--user-data-dir={profile}", "--virtual-time-budget=5000"]
    command = [chromium, *options, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@contextmanager
def shop_on_another_origin(folder: Path, port: int) -> Iterator[str]:
    """Start the web server of a shop."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()


def put_shop(folder: Path, collecting: Collecting) -> None:
    """Write the demo shop with a simulated shopper. The collector serves its snippet."""
    page = Path("src/boat/collect/static/shop.html").read_text(encoding="utf-8")
    folder.mkdir()
    snippet = f'src="{collecting.url}/boat.js"'
    (folder / "index.html").write_text(page.replace('src="boat.js"', snippet) + SHOPPING, encoding="utf-8")


def put_page_with_its_own_snippet(folder: Path, endpoint: str, script: str) -> None:
    """Write a page with its own copy of the snippet, so that it loads without the collector."""
    folder.mkdir()
    shutil.copy("src/boat/collect/static/boat.js", folder / "boat.js")
    snippet = f'<script src="boat.js" data-shop="mugs" data-endpoint="{endpoint}" data-pageview="off"></script>'
    (folder / "index.html").write_text(f"<title>Shop</title>{script}{snippet}", encoding="utf-8")
    (folder / "look.html").write_text(f"{snippet}<script>boat.track('search', {{query: 'mug'}})</script>")


def test_the_demo_shop_sends_a_visit_to_its_collector(chromium: str, tmp_path: Path) -> None:
    with running_collector(tmp_path / "landing") as collecting:
        assert "Blue mug" in visit(chromium, f"{collecting.url}/", tmp_path / "profile")
        visit(chromium, f"{collecting.url}/", tmp_path / "profile")
        collecting.stop()
    first, second = lines(tmp_path / "landing")
    assert (first["event_type"], first["shop"], first["url"]) == ("pageview", "demo", f"{collecting.url}/")
    assert first["client_id"] == second["client_id"]
    assert first["session_id"] == second["session_id"]
    assert first["event_id"] != second["event_id"]


def test_a_shop_on_an_allowed_origin_sends_all_events(chromium: str, tmp_path: Path) -> None:
    port = free_port()
    with running_collector(tmp_path / "landing", "--origin", f"http://127.0.0.1:{port}") as collecting:
        put_shop(tmp_path / "shop", collecting)
        with shop_on_another_origin(tmp_path / "shop", port) as url:
            visit(chromium, url, tmp_path / "profile")
        collecting.stop()
    events = lines(tmp_path / "landing")
    sent = [(event["event_type"], event.get("product_id")) for event in events]
    shopping = [("detail", "blue-mug"), ("add", "blue-mug"), ("add", "red-mug"), ("search", None)]
    assert sent == [("pageview", None), *shopping, ("purchase", "blue-mug"), ("purchase", "red-mug")]
    assert events[4]["query"] == "mugs for [email]"
    assert events[5]["extra"]["transaction_id"] == events[6]["extra"]["transaction_id"]
    assert events[5]["extra"]["revenue"] == 26.5
    assert "Chrome" in events[0]["extra"]["browser"]
    assert len({event["event_id"] for event in events}) == len(events)


def test_a_shop_on_another_origin_sends_nothing(chromium: str, tmp_path: Path) -> None:
    port = free_port()
    with running_collector(tmp_path / "landing") as collecting:
        put_shop(tmp_path / "shop", collecting)
        with shop_on_another_origin(tmp_path / "shop", port) as url:
            assert "Blue mug" in visit(chromium, url, tmp_path / "profile")
        collecting.stop()
    assert lines(tmp_path / "landing") == []


def test_the_next_page_sends_the_events_that_the_collector_missed(chromium: str, tmp_path: Path) -> None:
    port, collector_port = free_port(), free_port()
    put_page_with_its_own_snippet(tmp_path / "shop", f"http://127.0.0.1:{collector_port}/collect", "")
    origin = f"http://127.0.0.1:{port}"
    with shop_on_another_origin(tmp_path / "shop", port) as url:
        visit(chromium, f"{url}/look.html", tmp_path / "profile")
        with running_collector(tmp_path / "landing", "--origin", origin, port=collector_port) as collecting:
            visit(chromium, f"{url}/", tmp_path / "profile")
            collecting.stop()
    (event,) = lines(tmp_path / "landing")
    assert (event["event_type"], event["query"], event["shop"]) == ("search", "mug", "mugs")


def test_a_visitor_who_opts_out_is_not_tracked(chromium: str, tmp_path: Path) -> None:
    port = free_port()
    with running_collector(tmp_path / "landing", "--origin", f"http://127.0.0.1:{port}") as collecting:
        asks = "<script>Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})</script>"
        put_page_with_its_own_snippet(tmp_path / "shop", f"{collecting.url}/collect", asks)
        page = tmp_path / "shop" / "index.html"
        page.write_text(page.read_text() + "<script>boat.track('pageview'); document.title = 'sent nothing'</script>")
        with shop_on_another_origin(tmp_path / "shop", port) as url:
            assert "sent nothing" in visit(chromium, url, tmp_path / "profile")
        collecting.stop()
    assert lines(tmp_path / "landing") == []
