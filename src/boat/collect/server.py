"""The collector as a local server: `boat collect --landing DIR`.

It also serves the snippet for a shop's pages, `/boat.js`, and at `/` a small demo shop that uses it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from boat import settings
from boat.collect import privacy
from boat.collect.body import MAX_BODY_BYTES
from boat.collect.commit import GroupCommit
from boat.collect.core import Collector, CollectRequest, CollectResult, Policy, Refusal
from boat.collect.journal import Journal
from boat.errors import SettingError

HEAD_SECONDS = 5.0
BODY_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024
MAX_DRAINED_BYTES = 16 * MAX_BODY_BYTES
"""Bytes to read of a body that is too large. A client that is still sending would not see the answer."""
MAX_CONNECTIONS = 1000
"""Connections at once. With the largest body each, they need half a gigabyte."""
KEEP_ALIVE_SECONDS = 2
"""Seconds to wait for a shopper's next event on an idle connection, which counts against `MAX_CONNECTIONS`."""

_WHOLE = "boat.whole"
"""Key of a request's state. It is set if the body has arrived, so that no time limit is needed."""
_SWITCH_SECONDS = 0.0002  # by default the sync thread waits 5 ms for a busy event loop, several times per sync
_STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class ServerOptions:
    """Address and files of a collector.

    Attributes:
        landing: Landing folder. Files are written to its folder `events/`.
        host: Address to listen on.
        port: TCP port.
        proxies: Addresses of the proxies in front of it, separated by commas.
        rotate_seconds: Age at which a landing file is completed.
    """

    landing: Path
    host: str = "127.0.0.1"
    port: int = 8070
    proxies: str = ""
    rotate_seconds: float = 60

    @property
    def own_origins(self) -> frozenset[str]:
        """Return the origins of the pages that the collector serves, for browsers on this machine."""
        return settings.origins((f"http://{name}:{self.port}" for name in ("127.0.0.1", "localhost")), "--port")


class CollectEndpoint:
    """`/collect` as an ASGI application."""

    def __init__(self, collector: Collector, commits: GroupCommit) -> None:
        self._collector, self._commits = collector, commits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        head = _head(scope)
        outcome = self._collector.early(head)
        try:
            body = await _body(scope, receive)
        except ConnectionError:
            return
        except Refusal as refusal:
            outcome = outcome or self._collector.refused(head, refusal)
            await _send(send, outcome, {"connection": "close"})
            return
        if outcome is None:
            request = CollectRequest(head.method, head.query, head.headers, head.address, body)
            outcome = await self._commit(request, self._collector.take(request))
        await _send(send, outcome, {})

    async def _commit(self, request: CollectRequest, outcome: CollectResult) -> CollectResult:
        """Return the result once its lines are durable, or a refusal if they cannot be written."""
        if outcome.accepted or outcome.failed:
            try:
                await self._commits.append(outcome.accepted, outcome.failed)
            except OSError:
                refusal = Refusal(503, "storage_unavailable", "The events could not be stored.", {"retry-after": "5"})
                return self._collector.refused(request, refusal)
        return outcome


def application(collector: Collector, journal: Journal) -> ASGIApp:
    """Return the ASGI application, which writes to a journal and closes it at the end."""
    commits = GroupCommit(journal)
    endpoint = CollectEndpoint(collector, commits)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await commits.start()
        yield
        await commits.stop()

    async def ping(request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def shop(request: HttpRequest) -> Response:
        return FileResponse(_STATIC / "shop.html")

    async def snippet(request: HttpRequest) -> Response:
        return FileResponse(_STATIC / "boat.js", media_type="text/javascript")

    pages = Starlette(
        routes=[Route("/boat.js", snippet), Route("/ping", ping), Route("/", shop)],
        lifespan=lifespan,
    )

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        # Routing and middleware would add a fifth to the time of an event.
        is_event = scope["type"] == "http" and scope["path"] == "/collect"
        await (endpoint if is_event else pages)(scope, receive, send)

    return answer


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits to the time and size of a request's head. uvicorn itself waits for ever."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.scope["state"][_WHOLE] = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:  # most heads arrive complete and need no timer
            self._start_head_timer()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop(self) -> None:
        self._cancel_head_timer()
        self.transport.abort()


def run(listener: ServerOptions, policy: Policy) -> None:
    """Serve until the process is stopped.

    Raises:
        SettingError: The landing folder is not writable, or a limit is not a number above 0.
    """
    settings.positive(policy.events_per_second, "--events-per-second")
    settings.positive(policy.burst, "--burst")
    settings.positive(listener.rotate_seconds, "--rotate-seconds")
    if policy.signed_only and not policy.secrets:
        raise SettingError(
            "--signed-only needs a signing key, but BOAT_COLLECT_KEYS is empty.", "Set BOAT_COLLECT_KEYS to key:secret."
        )
    try:
        journal = Journal(listener.landing / "events", max_seconds=listener.rotate_seconds)
    except OSError as error:
        raise SettingError(
            f"Cannot write to the landing folder {listener.landing} ({error}).", "Set --landing to another folder."
        ) from error
    for path in journal.recovered:
        print(f"Completed {path.name}, a file of a process that was killed.", file=sys.stderr)
    privacy.reduced("-")  # builds the library's tables now, so that the first shopper does not wait
    sys.setswitchinterval(_SWITCH_SECONDS)
    print(f"Collecting on http://{listener.host}:{listener.port}/collect into {listener.landing}", flush=True)
    uvicorn.run(
        application(Collector(policy), journal),
        host=listener.host,
        port=listener.port,
        http=LimitedProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(listener.proxies),
        forwarded_allow_ips=listener.proxies or None,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=15,
    )


def _head(scope: Mapping[str, Any]) -> CollectRequest:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    return CollectRequest(
        scope["method"], scope["query_string"].decode("latin-1"), headers, client[0] if client else ""
    )


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Return the complete body.

    Raises:
        Refusal: The body is too large or too slow.
        ConnectionError: The client disconnected.
    """
    if _WHOLE in scope.get("state", ()):
        return await _read(receive)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive)
    except TimeoutError as error:
        raise Refusal(408, "too_slow", f"The body took more than {BODY_SECONDS:g} seconds.") from error


async def _read(receive: Receive) -> bytes:
    content, size, is_incomplete = bytearray(), 0, True
    while is_incomplete and size <= MAX_DRAINED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        is_incomplete, chunk = message.get("more_body", False), message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            content += chunk
    if size > MAX_BODY_BYTES:
        raise Refusal(413, "too_large", f"The body has more than {MAX_BODY_BYTES} bytes.")
    return bytes(content)


async def _send(send: Send, outcome: CollectResult, extra_headers: Mapping[str, str]) -> None:
    headers = {**outcome.headers, **extra_headers}
    if outcome.status != 204:
        headers["content-length"] = str(len(outcome.content))
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": outcome.status, "headers": pairs})
    await send({"type": "http.response.body", "body": outcome.content})
