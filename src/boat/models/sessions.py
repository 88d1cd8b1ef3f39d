"""A session as an endpoint takes it: the inputs every exported model has, whatever it reads of them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


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


def instances(sessions: Sequence[Sequence[SessionEvent]]) -> list[dict[str, list[Any]]]:
    """The `instances` of a TensorFlow Serving request, padded at the end to the longest session (one at least).

    The words of a search without a URL become its URL.
    """
    longest = max((len(events) for events in sessions), default=0) or 1
    return [
        {
            name: [_value(event, name) for event in events] + [empty] * (longest - len(events))
            for name, empty in PADDING.items()
        }
        for events in sessions
    ]


def _value(event: SessionEvent, name: str) -> Any:
    if name == "url" and event.get("event_type") == "search" and not event.get("url") and event.get("query"):
        return SEARCH + event["query"]
    return event.get(name, PADDING[name])
