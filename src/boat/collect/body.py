"""Decompress and parse the body of a request into events. Limits apply to the uncompressed body."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from boat.collect.validation import MAX_DEPTH, BadEvent, CollectReason

MAX_BODY_BYTES = 500_000
MAX_EVENT_BYTES = 32_000
MAX_EVENTS = 1000
"""With more events in a body, the answer could be larger than the body."""

_TOO_DEEP = BadEvent(CollectReason.TOO_DEEP, "", f"The event is nested deeper than {MAX_DEPTH} levels.")
_GZIP = 16 + zlib.MAX_WBITS


class RefusedBody(Exception):
    """A body that is refused as a whole.

    Args:
        status: HTTP status of the answer.
        reason: Code for programs.
        message: Explanation for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass(frozen=True)
class IncomingEvent:
    """An event of a request, before validation.

    Attributes:
        event: Parsed JSON, or the text if it is not JSON.
        flaw: Error that was found while parsing.
    """

    event: Any
    flaw: BadEvent | None = None


def decompress(body: bytes, encoding: str) -> bytes:
    """Return the uncompressed body.

    Raises:
        RefusedBody: It is too large, damaged, or of an unknown encoding.
    """
    if encoding in {"", "identity"}:
        content = body
    elif encoding == "gzip":
        content = _gunzipped(body)
    else:
        raise RefusedBody(415, "unsupported_encoding", "Content-Encoding must be gzip or absent.")
    if len(content) > MAX_BODY_BYTES:
        raise RefusedBody(413, "too_large", f"The uncompressed body has more than {MAX_BODY_BYTES} bytes.")
    return content


def _gunzipped(body: bytes) -> bytes:
    decompressor = zlib.decompressobj(_GZIP)
    try:
        # A zip bomb needs no more memory than the largest body.
        content = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise RefusedBody(400, "bad_gzip", "The body is not gzip.") from error
    if len(content) <= MAX_BODY_BYTES and (not decompressor.eof or decompressor.unused_data):
        raise RefusedBody(400, "bad_gzip", "The body is not a single, complete gzip member.")
    return content


def events(content: bytes) -> list[IncomingEvent]:
    """Return the events of an uncompressed body. A body that is not JSON is one bad event.

    Raises:
        RefusedBody: The body has no event, or too many.
    """
    try:
        parsed = _decode(content.decode("utf-8"))
    except RecursionError:
        flaw = _TOO_DEEP
    except ValueError:
        flaw = BadEvent(CollectReason.NOT_JSON, "", "The body is not JSON in UTF-8.")
    else:
        return list(_split(parsed, len(content)))
    return [IncomingEvent(content.decode("utf-8", "replace"), flaw)]


def _split(parsed: Any, size: int) -> Iterator[IncomingEvent]:
    if isinstance(parsed, dict) and isinstance(parsed.get("events"), list):
        parsed = parsed["events"]
    if not isinstance(parsed, list):
        parsed = [parsed]
    elif not parsed:
        raise RefusedBody(400, "empty", "The body contains no event.")
    if len(parsed) > MAX_EVENTS:
        raise RefusedBody(413, "too_many_events", f"A batch may have at most {MAX_EVENTS} events.")
    for event in parsed:
        yield IncomingEvent(event, _too_large(event) if size > MAX_EVENT_BYTES else None)


def _too_large(event: Any) -> BadEvent | None:
    try:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return _TOO_DEEP
    if len(text.encode("utf-8", "surrogatepass")) <= MAX_EVENT_BYTES:
        return None
    return BadEvent(CollectReason.TOO_LARGE, "", f"The event has more than {MAX_EVENT_BYTES} bytes.")


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_json).decode
