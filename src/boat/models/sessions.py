"""A session as an endpoint takes it: the inputs every exported model has, whatever it reads of them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class SessionEvent(TypedDict, total=False):
    """One event of a session, by the names of the event contract.

    `event_type` is needed; `product_id` and `url` may be missing; `event_time` is in seconds since 1970, UTC.
    """

    event_type: str
    product_id: str
    url: str
    event_time: float


INPUTS: Mapping[str, str] = {"event_type": "string", "product_id": "string", "url": "string", "event_time": "float64"}
"""Inputs of the signature `serving_default`, each of shape [sessions, events], oldest event first."""

PADDING: Mapping[str, Any] = {"event_type": "", "product_id": "", "url": "", "event_time": 0.0}
"""Value that fills a session up to the longest of its request; an event whose type is empty is not there."""


def instances(sessions: Sequence[Sequence[SessionEvent]]) -> list[dict[str, list[Any]]]:
    """The `instances` of a TensorFlow Serving request, padded at the end to the longest session (one at least)."""
    longest = max((len(events) for events in sessions), default=0) or 1
    return [
        {
            name: [event.get(name, empty) for event in events] + [empty] * (longest - len(events))
            for name, empty in PADDING.items()
        }
        for events in sessions
    ]
