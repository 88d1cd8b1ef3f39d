"""Sessions as inputs of an endpoint. Every exported model has the same inputs, even if it reads only some."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from math import isfinite
from typing import Any, TypedDict

from boat import events
from boat.errors import DataError
from boat.events import ValueProblem


class SessionEvent(TypedDict, total=False):
    """One event of a session, by the names of the event contract.

    `event_type` is required. `product_id`, `url` and `query` may be missing. `event_time` is seconds since 1970, UTC.
    """

    event_type: str
    product_id: str
    url: str
    query: str
    event_time: float


INPUTS: Mapping[str, str] = {"event_type": "string", "product_id": "string", "url": "string", "event_time": "float64"}
"""Inputs of the signature `serving_default`, each of shape [sessions, events], oldest event first."""

PADDING: Mapping[str, Any] = {"event_type": "", "product_id": "", "url": "", "event_time": 0.0}
"""Values that pad a session to the longest one of its request; an event with an empty type is ignored."""

SEARCH = "search:"
"""Prefix of the `url` of a search without a URL; the words of the search follow."""


def instances(sessions: Sequence[Sequence[Mapping[str, object]]]) -> list[dict[str, list[Any]]]:
    """Build the `instances` of a TensorFlow Serving request, padded at the end to the longest session.

    The words of a search without a URL become its URL.

    Args:
        sessions: A `SessionEvent` for each event; its values can also be other types that `value` reads.

    Raises:
        DataError: A value cannot be read.
    """
    longest = max((len(events) for events in sessions), default=0) or 1
    return [
        {
            name: [_value(event, name) for event in events] + [empty] * (longest - len(events))
            for name, empty in PADDING.items()
        }
        for events in sessions
    ]


def value(name: str, raw: Any) -> str | float:
    """Return the value of an event for an input: text, or a finite number.

    Numbers as ids and texts as times are read here, because a tensor has one type. Other values are not changed: the
    exported graph reads them.

    Args:
        name: One of `INPUTS`, or `query`.
        raw: A JSON value; `None` is missing.

    Raises:
        ValueProblem: The value has a wrong type, is not finite, or is text and not a time.
    """
    if name == "event_time":
        return _seconds(raw)
    if isinstance(raw, str):
        return raw
    if name == "product_id":
        return events.identifier(raw) or ""
    if raw is None and name != "event_type":
        return ""
    raise ValueProblem("wrong_type", f"is {type(raw).__name__}, not text")


def _seconds(raw: Any) -> float:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        try:
            number = float(raw)
        except OverflowError:
            number = float("inf")
        if not isfinite(number):
            raise ValueProblem("not_a_time", "is not a finite number")
        return number
    time = events.moment(raw)
    return 0.0 if time is None else time.replace(tzinfo=UTC).timestamp()


def _value(event: Mapping[str, object], name: str) -> str | float:
    if name == "url" and not event.get("url") and event.get("query") and _is_search(event):
        return f"{SEARCH}{event['query']}"
    try:
        return value(name, event.get(name, PADDING[name]))
    except ValueProblem as problem:
        raise DataError(f"{name} {event.get(name)!r:.100} {problem.message}.", "Correct the event.") from problem


def _is_search(event: Mapping[str, object]) -> bool:
    return events.event_type(str(event.get("event_type", ""))) == "search"
