"""The reports server: `python -m boat.reports.server --port 8090 --folder .boat/reports`.

The server shows Data Docs and model cards, and receives the alerts of an installation without Slack. It has no login
and listens on 127.0.0.1 only.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from boat import settings
from boat.errors import BoatError
from boat.render.page import page

MAX_ALERT_BYTES = 64 * 1024
MAX_INBOX_BYTES = 4 * 1024**2
"""A larger inbox is renamed to `alerts.old.ndjson`, which replaces an older one."""
SHOWN_ALERTS = 200

_FIELDS = ("title", "message", "type")
_LINK = re.compile(r"<(https?://[^|>\s]+)\|([^>]+)>|(https?://[^\s<>\"']+)")


class Inbox:
    """A file of alerts, one line of JSON for each.

    Args:
        path: The file. It is created with the first alert.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, alert: dict[str, str]) -> None:
        """Append an alert."""
        if self._path.exists() and self._path.stat().st_size > MAX_INBOX_BYTES:
            self._path.replace(self._path.with_suffix(".old.ndjson"))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            if _is_torn(file):
                file.write(b"\n")
            file.write(json.dumps(alert).encode() + b"\n")

    def newest(self) -> list[dict[str, str]]:
        """Return the last alerts, newest first."""
        if not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return [alert for line in reversed(lines[-SHOWN_ALERTS:]) if (alert := _parsed(line))]


def application(folder: Path) -> Starlette:
    """Return the ASGI application for a folder of reports. The folder is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    inbox = Inbox(folder / "alerts.ndjson")

    async def index(request: Request) -> Response:
        return HTMLResponse(_index(folder))

    async def show_alerts(request: Request) -> Response:
        return HTMLResponse(_alerts(inbox.newest()))

    async def take_alert(request: Request) -> Response:
        # A foreign web page can make a browser send a form here. JSON needs a CORS permission, which we do not give.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _refusal(415, "The alert is not JSON. Send it with Content-Type: application/json.")
        body = await _body(request)
        if body is None:
            return _refusal(413, f"The alert is too large. The limit is {MAX_ALERT_BYTES} bytes.")
        alert = _alert(body)
        if alert is None:
            return _refusal(400, "The alert has no content. Send a JSON object with title, message and type.")
        inbox.add(alert)
        return JSONResponse({}, 201)

    return Starlette(
        routes=[
            Route("/", index),
            Route("/alerts", show_alerts, methods=["GET"]),
            Route("/alerts", take_alert, methods=["POST"]),
            Mount("/", StaticFiles(directory=folder, html=True)),
        ]
    )


async def _body(request: Request) -> bytes | None:
    body, size = bytearray(), 0
    async for chunk in request.stream():  # read to the end: a client that is still sending does not read the answer
        size += len(chunk)
        if size <= MAX_ALERT_BYTES:
            body += chunk
    return bytes(body) if size <= MAX_ALERT_BYTES else None


def _alert(body: bytes) -> dict[str, str] | None:
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not any(content.get(field) for field in _FIELDS):
        return None
    received_at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"received_at": received_at} | {field: str(content.get(field) or "") for field in _FIELDS}


def _is_torn(file: BinaryIO) -> bool:
    """Return whether the last line is incomplete, because the server was killed while writing it."""
    if not file.seek(0, 2):
        return False
    file.seek(-1, 2)
    return file.read(1) != b"\n"


def _parsed(line: str) -> dict[str, str] | None:
    try:
        alert: dict[str, str] = json.loads(line)
    except ValueError:  # an incomplete line
        return None
    return alert


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def _alerts(alerts: Sequence[dict[str, str]]) -> str:
    rows = "".join(
        f'<tr><td class="dim">{escape(alert["received_at"])}</td>'
        f'<td class="{_tone(alert)}">{escape(alert["type"])}</td>'
        f"<td><strong>{escape(alert['title'])}</strong><br>{_linked(alert['message'])}</td></tr>"
        for alert in alerts
    )
    table = f"<table><tr><th>Received (UTC)<th>Type<th>Alert</tr>{rows}</table>" if rows else "<p>No alerts yet.</p>"
    lead = f'<p class="dim">The last {SHOWN_ALERTS} alerts, newest first. <a href="/">Reports</a></p>'
    return page("Alerts", f"<h1>Alerts</h1>{lead}{table}")


def _tone(alert: dict[str, str]) -> str:
    return "bad" if alert["type"] in ("failure", "warning") else "dim"


def _linked(text: str) -> str:
    """Return a message as HTML: web addresses and links in Slack's notation are links, the rest is text."""
    html, end = [], 0
    for match in _LINK.finditer(text):
        address, label = (match[1], match[2]) if match[1] else (match[3], match[3])
        html += [escape(text[end : match.start()]), f'<a href="{escape(address)}">{escape(label)}</a>']
        end = match.end()
    return "".join([*html, escape(text[end:])]).replace("\n", "<br>")


def _index(folder: Path) -> str:
    reports = sorted(_reports(folder), key=lambda path: -path.stat().st_mtime)
    rows = "".join(
        f'<tr><td><a href="/{quote(path.relative_to(folder).as_posix())}">{escape(_name(path, folder))}</a></td>'
        f'<td class="dim">{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d %H:%M}</td></tr>'
        for path in reports
    )
    empty = "<p>No reports yet. The flows <code>ingestion</code> and <code>retrain</code> write reports.</p>"
    table = f"<table><tr><th>Report<th>Written (UTC)</tr>{rows}</table>" if rows else empty
    return page("Boat reports", f'<h1>Reports</h1><p><a href="/alerts">Alerts</a></p>{table}')


def _reports(folder: Path) -> Iterator[Path]:
    """Yield the reports of a folder. A folder with an `index.html` is one report, otherwise each page is one."""
    for path in folder.iterdir():
        if path.is_dir():
            start = path / "index.html"
            yield from [start] if start.is_file() else _reports(path)
        elif path.suffix == ".html":
            yield path


def _name(path: Path, folder: Path) -> str:
    report = path.parent if path.name == "index.html" else path.with_suffix("")
    return " / ".join(report.relative_to(folder).parts).replace("_", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped. Return the exit status: 0, or 1 with the error on stderr."""
    try:
        _serve(arguments)
    except BoatError as error:
        print(f"python -m boat.reports.server: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(arguments: Sequence[str] | None) -> None:
    defaults = settings.load()
    parser = argparse.ArgumentParser(
        prog="python -m boat.reports.server", description="Show reports and receive alerts."
    )
    parser.add_argument("--port", default=str(defaults.reports_port), help="port to listen on (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=defaults.reports, help="reports (default: %(default)s)")
    options = parser.parse_args(arguments)
    port = settings.port(options.port, "--port")
    print(f"Showing the reports of {options.folder} at http://127.0.0.1:{port}", flush=True)
    uvicorn.run(
        application(options.folder),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    sys.exit(main())
