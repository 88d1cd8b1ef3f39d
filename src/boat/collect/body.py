"""From the bytes of a request to the events in them, within limits that hold for the uncompressed body."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from boat.collect.validation import MAX_DEPTH, BadEvent, CollectReason

MAX_BODY_BYTES = 500_000
MAX_EVENT_BYTES = 32_000
MAX_EVENTS = 1000
"""More in one body would make its answer larger than itself."""

_TOO_DEEP = BadEvent(CollectReason.TOO_DEEP, "", f"The event is nested deeper than {MAX_DEPTH} levels.")
_GZIP = 16 + zlib.MAX_WBITS


class RefusedBody(Exception):
    """A body that is not read at all.

    Args:
        status: The answer's HTTP status.
        reason: Its code.
        message: What is wrong.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


@dataclass(frozen=True)
class IncomingEvent:
    """One event as it came.

    Attributes:
        event: The parsed JSON; the text itself where it is none.
        flaw: What is wrong with it already.
    """

    event: Any
    flaw: BadEvent | None = None


def unpacked(body: bytes, encoding: str) -> bytes:
    """The uncompressed body.

    Raises:
        RefusedBody: It is too large, damaged, or packed in a way not known here.
    """
    if encoding in {"", "identity"}:
        content = body
    elif encoding == "gzip":
        content = _gunzipped(body)
    else:
        raise RefusedBody(415, "unsupported_encoding", "Content-Encoding is gzip or absent.")
    if len(content) > MAX_BODY_BYTES:
        raise RefusedBody(413, "too_large", f"The uncompressed body has more than {MAX_BODY_BYTES} bytes.")
    return content


def _gunzipped(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(body, MAX_BODY_BYTES + 1)  # a bomb costs no more memory than a full body
    except zlib.error as error:
        raise RefusedBody(400, "bad_gzip", "The body is not gzip.") from error
    if len(content) <= MAX_BODY_BYTES and (not unpacker.eof or unpacker.unused_data):
        raise RefusedBody(400, "bad_gzip", "The body is not one whole gzip member.")
    return content


def events(content: bytes) -> list[IncomingEvent]:
    """The events of an uncompressed body. One that is no JSON is one bad event.

    Raises:
        RefusedBody: It holds no event, or too many.
    """
    try:
        parsed = _decode(content.decode("utf-8"))
    except RecursionError:
        flaw = _TOO_DEEP
    except ValueError:
        flaw = BadEvent(CollectReason.NOT_JSON, "", "The body is not JSON in UTF-8.")
    else:
        return list(_each(parsed, len(content)))
    return [IncomingEvent(content.decode("utf-8", "replace"), flaw)]


def _each(parsed: Any, size: int) -> Iterator[IncomingEvent]:
    if isinstance(parsed, dict) and isinstance(parsed.get("events"), list):
        parsed = parsed["events"]
    if not isinstance(parsed, list):
        parsed = [parsed]
    elif not parsed:
        raise RefusedBody(400, "empty", "The body holds no event.")
    if len(parsed) > MAX_EVENTS:
        raise RefusedBody(413, "too_many_events", f"A batch has at most {MAX_EVENTS} events.")
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
