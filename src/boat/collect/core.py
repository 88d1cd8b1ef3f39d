"""Handling of requests, shared by the local server and the Lambda function.

It has no side effects except its memory (rate limits, used signatures, the salt of the day). The host writes the lines
of a result to disk, and then sends the response.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from boat.collect import body, pixel, privacy, validation
from boat.collect.access import RateLimit, Signatures
from boat.collect.body import MAX_BODY_BYTES, MAX_EVENT_BYTES, IncomingEvent, RefusedBody
from boat.collect.validation import BadEvent, Receipt
from boat.events import IS_BOT

_FORM = "application/x-www-form-urlencoded"
_TYPES = {"", "application/json", "text/plain", _FORM}  # a page's beacon is text/plain, which needs no preflight
_JSON_HEADERS = {"content-type": "application/json"}
_GIF_HEADERS = {"content-type": "image/gif", "cache-control": "no-store, private"}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_HEADERS = "content-type, content-encoding, x-boat-key, x-boat-signature"


@dataclass(frozen=True)
class Policy:
    """Rules for senders.

    Attributes:
        origins: Web origins, such as `https://shop.example`, whose pages may send events. Other clients send no origin.
        secrets: Secret of each signing key.
        signed_only: Whether to refuse requests without a signature.
        events_per_second: Long-term rate limit of a sender: a signing key, or else an address.
        burst: Most events of a sender at once.
        shops: Names of the accepted shops. Empty: any shop.
    """

    origins: frozenset[str] = frozenset()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    signed_only: bool = False
    events_per_second: float = 200
    burst: int = 2000
    shops: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CollectRequest:
    """A request, independent of the host.

    Attributes:
        method: HTTP method in capitals.
        query: Query of the URL, without the `?`.
        headers: Header values by name in lower case.
        address: IP address of the client.
        body: Body as it was sent.
    """

    method: str
    query: str
    headers: Mapping[str, str]
    address: str
    body: bytes = b""


@dataclass(frozen=True)
class CollectResult:
    """Lines to write, and the answer to send once they are durable.

    Attributes:
        status: HTTP status.
        headers: Header values by name in lower case.
        content: Body of the answer.
        accepted: NDJSON for the landing file, a line per event.
        failed: NDJSON for the dead letters.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes = b""
    accepted: bytes = b""
    failed: bytes = b""


class Refusal(Exception):
    """A request that is refused as a whole. None of its events is stored."""

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.headers = status, reason, message, headers or {}


class Collector:
    """Handles requests.

    Args:
        policy: Rules for senders.
        clock: Returns the seconds since 1970.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.time) -> None:
        self._policy, self._clock = policy, clock
        self._rates = RateLimit(policy.events_per_second, policy.burst)
        self._signatures = Signatures(policy.secrets)
        self._addresses = privacy.Addresses()

    def early(self, request: CollectRequest) -> CollectResult | None:
        """Return the answer to a preflight, or to a request that its head alone makes invalid; else None."""
        try:
            return self._check_head(request)
        except Refusal as refusal:
            return self.refused(request, refusal)

    def take(self, request: CollectRequest) -> CollectResult:
        """Return the result of a complete request that `early` did not answer."""
        try:
            return self._take(request)
        except Refusal as refusal:
            return self.refused(request, refusal)

    def refused(self, request: CollectRequest, refusal: Refusal) -> CollectResult:
        """Return the answer to a refused request."""
        content = json.dumps({"error": refusal.reason, "message": refusal.message}).encode()
        headers = {"content-type": "application/json", **refusal.headers, **self._cors(request)}
        return CollectResult(refusal.status, headers, content)

    def _check_head(self, request: CollectRequest) -> CollectResult | None:
        headers = request.headers
        origin = headers.get("origin")
        if origin is not None and origin not in self._policy.origins:
            raise Refusal(403, "origin_not_allowed", "Pages of this origin may not send events.")
        if request.method == "OPTIONS":
            allowed = {"access-control-allow-methods": "GET, POST", "access-control-allow-headers": _HEADERS}
            return CollectResult(204, {**self._cors(request), **allowed, "access-control-max-age": "86400"})
        if request.method not in {"GET", "POST"}:
            raise Refusal(405, "method_not_allowed", "Send events with POST or GET.", {"allow": "GET, POST, OPTIONS"})
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:12]) > MAX_BODY_BYTES:
            raise Refusal(413, "too_large", f"The body has more than {MAX_BODY_BYTES} bytes.")
        if _content_type(request) not in _TYPES:
            raise Refusal(
                415, "unsupported_media_type", f"Content-Type must be application/json, text/plain or {_FORM}."
            )
        if self._policy.signed_only and "x-boat-signature" not in headers:
            raise Refusal(401, "signature_missing", "This collector accepts signed requests only.")
        return None

    def _take(self, request: CollectRequest) -> CollectResult:
        now = self._clock()
        sender = self._authenticate(request, now)
        is_signed = sender.startswith("key ")
        received_at = datetime.fromtimestamp(now, UTC)
        incoming = self._parse(request, is_signed, received_at)
        if wait := self._rates.take(sender, len(incoming), now):
            headers = {"retry-after": str(int(wait) + 1)}
            raise Refusal(429, "rate_limited", "Too many events. Send them again later.", headers)
        receipt = Receipt(received_at, self._describe_sender(request, is_signed, received_at), self._policy.shops)
        return self._validate(request, incoming, received_at, receipt)

    def _authenticate(self, request: CollectRequest, now: float) -> str:
        """Return the sender for rate limits: the key of a valid signature, or else the address."""
        signature = request.headers.get("x-boat-signature")
        if signature is None:
            return f"address {request.address}"
        key = request.headers.get("x-boat-key", "")
        signed = request.body if request.method == "POST" else request.query.encode()
        if flaw := self._signatures.flaw(key, signature, signed, now):
            raise Refusal(401, flaw, "The signature is not valid. Sign each retry again.")
        return f"key {key}"

    def _parse(self, request: CollectRequest, is_signed: bool, received_at: datetime) -> list[IncomingEvent]:
        try:
            if request.method == "GET":
                return pixel.hits(request.query, b"", received_at, self._policy.shops)
            content = body.decompress(request.body, request.headers.get("content-encoding", "").strip().lower())
            if pixel.is_json(content):
                return body.events(content)
            query = "" if is_signed else request.query  # the signature of a POST covers its body alone
            if pixel.is_hit(query, content) or _content_type(request) == _FORM:
                return pixel.hits(query, content, received_at, self._policy.shops)
            return body.events(content)
        except RefusedBody as refused:
            raise Refusal(refused.status, refused.reason, refused.message) from refused

    def _validate(
        self, request: CollectRequest, incoming: Sequence[IncomingEvent], received_at: datetime, receipt: Receipt
    ) -> CollectResult:
        accepted: list[dict[str, Any]] = []
        letters: list[bytes] = []
        errors: list[dict[str, Any]] = []
        for index, parsed in enumerate(incoming):
            try:
                if parsed.flaw:
                    raise parsed.flaw
                row = validation.row(parsed.event, receipt)
                if row is not None:
                    accepted.append(row)
            except BadEvent as flaw:
                error = {"reason": flaw.reason, "field": flaw.field, "message": flaw.message}
                errors.append({"index": index, **error})
                letters.append(_line({"received_at": received_at.isoformat(), **error, **_payload(parsed.event)}))
        if len(accepted) > 1:
            validation.number_equal(accepted)
        unused = len(incoming) - len(accepted) - len(errors)
        status = 200 if accepted or unused else 400
        if request.method == "GET":
            headers, content = _GIF_HEADERS, pixel.GIF
        else:
            headers, content = _JSON_HEADERS, _answer(len(incoming), len(accepted), unused, errors)
        lines = b"".join(map(_line, accepted))
        return CollectResult(status, {**headers, **self._cors(request)}, content, lines, b"".join(letters))

    def _describe_sender(self, request: CollectRequest, is_signed: bool, received_at: datetime) -> dict[str, Any]:
        user_agent = request.headers.get("user-agent")
        client = privacy.reduced(user_agent) if user_agent else {}
        if is_signed and IS_BOT in client:  # a shop's server that sends the events of its shoppers
            client = {name: value for name, value in client.items() if name != IS_BOT}
        hashed = self._addresses.hashed(request.address, received_at.date())
        return {**client, "ip_hash": hashed} if hashed else client

    def _cors(self, request: CollectRequest) -> dict[str, str]:
        origin = request.headers.get("origin")
        if origin is None or origin not in self._policy.origins:
            return {"vary": "origin"}
        return {"access-control-allow-origin": origin, "vary": "origin"}


def _answer(received: int, accepted: int, unused: int, errors: Sequence[Mapping[str, Any]]) -> bytes:
    """Return JSON with the counts and errors. Most answers have no error and need no encoder."""
    counts = f'"received": {received}, "accepted": {accepted}, "unused": {unused}, "failed": {len(errors)}'
    return f'{{{counts}, "errors": {json.dumps(errors) if errors else "[]"}}}'.encode()


def _line(fields: Mapping[str, Any]) -> bytes:
    return _encode(fields).encode() + b"\n"


def _content_type(request: CollectRequest) -> str:
    text = request.headers.get("content-type", "")
    return text if text in _TYPES else text.split(";")[0].strip().lower()


def _payload(event: Any) -> dict[str, Any]:
    """Return an event as masked text, cut to the length limit of events, and its length before the cut."""
    try:
        if isinstance(event, str):
            text = privacy.masked_url(event) if event.startswith("?") else privacy.masked(event)
        else:
            text = json.dumps(privacy.masked_tree(event), separators=(",", ":"))
    except RecursionError:  # the JSON parser allows some levels more than the encoder
        text = ""
    text = text.encode("utf-8", "replace").decode()
    return {"payload": text[:MAX_EVENT_BYTES], "payload_characters": len(text)}
