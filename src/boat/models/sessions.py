"""A session as an endpoint takes it: the inputs every exported model has, whatever it reads of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from math import isfinite
from typing import Any, TypedDict

from boat import events
from boat.errors import DataError
from boat.events import ValueProblem


class SessionEvent(TypedDict, total=False):
    """One event of a session, by the names of the event contract.

    `event_type` is needed; `product_id`, `url` and `query` may be missing; `event_time` is in seconds since 1970, UTC.
    """

    event_type: str
    product_id: str
    url: str
    query: str
    event_time: float


INPUTS: Mapping[str, str] = {"event_type": "string", "product_id": "string", "url": "string", "event_time": "float64"}
"""Inputs of the signature `serving_default`, each of shape [sessions, events], oldest event first."""

PADDING: Mapping[str, Any] = {"event_type": "", "product_id": "", "url": "", "event_time": 0.0}
"""Value that fills a session up to the longest of its request; an event whose type is empty is not there."""

SEARCH = "search:"
"""What begins the `url` of a search that has none of its own; its words follow."""


def instances(sessions: Sequence[Sequence[Mapping[str, object]]]) -> list[dict[str, list[Any]]]:
    """The `instances` of a TensorFlow Serving request, padded at the end to the longest session (one at least).

    The words of a search without a URL become its URL.

    Args:
        sessions: A `SessionEvent` for each event, whose values may also be what else `value` reads.

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
    """Return the value of an event as an input takes it: text, or a finite number.

    Numbers as ids and texts as times are read here, as no tensor holds both. Texts and numbers that fit the tensor stay
    as they are: the exported graph reads them.

    Args:
        name: One of `INPUTS`, or `query`.
        raw: What JSON can hold; None is missing.

    Raises:
        ValueProblem: It is not of a type that the input takes, is not finite, or is text that is no time.
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
