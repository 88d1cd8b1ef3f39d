"""The collector: takes what shoppers do over HTTP and keeps it as landing files that `boat.landing` loads.

`POST /collect` takes JSON, gzipped or not: one event, a list of events, or `{"events": [...]}`, with the columns of
`boat.events.COLUMNS` under any of their names; any other field goes to `extra`. `event_time` may be left out: it is
now. An event of a wrong clock counts at its receipt. `GET /collect?...`, and a POST in their form, take hits of Google
Analytics; see `boat.collect.pixel`. A GET is answered with a 1x1 GIF.

A POST is answered with `{"received", "accepted", "unused", "failed", "errors": [{"index", "reason", "field",
"message"}]}` once every accepted event and every failed one is on the disk. An unused event is of a type that is
understood and not stored, such as `scroll`. A failed event fails alone: the others of its batch are taken, and it is
kept as a dead letter. The status is 200 if at least one event was accepted or unused, else 400. A request refused as
a whole (too large, too fast, unsigned …) has status 4xx or 503, counts nothing and may be sent again.

An answer that never came says nothing: send the events again with the same `event_id`, the loader counts them once.
"""

from boat.collect.core import Collector, CollectRequest, CollectResult, Policy, Refusal
from boat.collect.journal import Journal
from boat.collect.validation import CollectReason

__all__ = ["CollectReason", "CollectRequest", "CollectResult", "Collector", "Journal", "Policy", "Refusal"]
