"""The collector as a server of its own: `python -m boat.collect --landing DIR`.

Beside `/collect` it serves the snippet for a shop's pages, `/boat.js`, and at `/` a small shop that uses it.
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
"""How much of a body that is too large is read, as a client that still sends would not see the answer."""
MAX_CONNECTIONS = 1000
"""With a whole body each they hold half a gigabyte."""
KEEP_ALIVE_SECONDS = 2
"""A shopper's next event may come on the same connection; an idle one takes another shopper's place."""

_WHOLE = "boat.whole"
"""Key of a request's state: its body has come already, so that no limit to the time of waiting for it is needed."""
_SWITCH_SECONDS = 0.0002  # else the thread that syncs waits 5 ms, several times a sync, for a busy event loop
_STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class ServerOptions:
    """Where a collector listens and what it writes.

    Attributes:
        landing: The landing folder; files go to `events/` in it.
        host: Address to listen on.
        port: TCP port.
        proxies: Addresses of the proxies in front of it, with commas between them.
        rotate_seconds: How old a landing file grows.
    """

    landing: Path
    host: str = "127.0.0.1"
    port: int = 8070
    proxies: str = ""
    rotate_seconds: float = 60

    @property
    def own_origins(self) -> frozenset[str]:
        """Origins of the pages that it serves itself, as seen from its own machine."""
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
            outcome = await self._kept(request, self._collector.take(request))
        await _send(send, outcome, {})

    async def _kept(self, request: CollectRequest, outcome: CollectResult) -> CollectResult:
        """The outcome, once what it tells is on the disk."""
        if outcome.accepted or outcome.failed:
            try:
                await self._commits.append(outcome.accepted, outcome.failed)
            except OSError:
                refusal = Refusal(503, "storage_unavailable", "The events could not be kept.", {"retry-after": "5"})
                return self._collector.refused(request, refusal)
        return outcome


def application(collector: Collector, journal: Journal) -> ASGIApp:
    """The ASGI application over a journal, which it closes in the end."""
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
        # Routing and middleware would take a fifth of an event's time.
        is_event = scope["type"] == "http" and scope["path"] == "/collect"
        await (endpoint if is_event else pages)(scope, receive, send)

    return answer


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's, which waits for ever for the head of a request, with a limit to its time and size."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.scope["state"][_WHOLE] = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:  # most heads come whole, and need no timer
            self._await_head()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._drop)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop(self) -> None:
        self._forget_head()
        self.transport.abort()


def run(place: ServerOptions, policy: Policy) -> None:
    """Serve until told to end.

    Raises:
        SettingError: The landing folder cannot be used, or a limit is none.
    """
    settings.positive(policy.events_per_second, "--events-per-second")
    settings.positive(policy.burst, "--burst")
    settings.positive(place.rotate_seconds, "--rotate-seconds")
    if policy.signed_only and not policy.secrets:
        raise SettingError("There is no key to sign with.", "Set BOAT_COLLECT_KEYS to key:secret.")
    try:
        journal = Journal(place.landing / "events", max_seconds=place.rotate_seconds)
    except OSError as error:
        raise SettingError(f"Cannot write to {place.landing} ({error}).", "Name another folder.") from error
    for path in journal.recovered:
        print(f"completed {path.name}, which another process left", file=sys.stderr)
    privacy.reduced("-")  # builds the library's tables, which takes longer than a shopper should wait
    sys.setswitchinterval(_SWITCH_SECONDS)
    print(f"Collecting on http://{place.host}:{place.port}/collect into {place.landing}", flush=True)
    uvicorn.run(
        application(Collector(policy), journal),
        host=place.host,
        port=place.port,
        http=LimitedProtocol,
        ws="none",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(place.proxies),
        forwarded_allow_ips=place.proxies or None,
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
    """The whole body.

    Raises:
        Refusal: It is too large, or comes too slowly.
        ConnectionError: The client went away.
    """
    if _WHOLE in scope.get("state", ()):
        return await _read(receive)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive)
    except TimeoutError as error:
        raise Refusal(408, "too_slow", f"The body took more than {BODY_SECONDS:g} seconds.") from error


async def _read(receive: Receive) -> bytes:
    content, size, more = bytearray(), 0, True
    while more and size <= MAX_DRAINED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        more, chunk = message.get("more_body", False), message.get("body", b"")
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            content += chunk
    if size > MAX_BODY_BYTES:
        raise Refusal(413, "too_large", f"The body has more than {MAX_BODY_BYTES} bytes.")
    return bytes(content)


async def _send(send: Send, outcome: CollectResult, more: Mapping[str, str]) -> None:
    headers = {**outcome.headers, **more}
    if outcome.status != 204:
        headers["content-length"] = str(len(outcome.content))
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": outcome.status, "headers": pairs})
    await send({"type": "http.response.body", "body": outcome.content})
