"""The collector: receives shoppers' events over HTTP and writes them to landing files that `boat.landing` loads.

`POST /collect` accepts JSON, plain or gzipped: one event, a list of events, or `{"events": [...]}`. Fields are columns
of `boat.events.COLUMNS` under any of their names. Any other field goes to `extra`. A missing `event_time` means now. If
the device's clock is wrong, the time of receipt counts. `GET /collect?...`, and a POST in the same form, accept hits of
Google Analytics; see `boat.collect.pixel`. The answer to a GET is a 1x1 GIF.

The answer to a POST is `{"received", "accepted", "unused", "failed", "errors": [{"index", "reason", "field",
"message"}]}`. It is sent once all accepted and failed events are on disk. An unused event has a type that is known and
not stored, such as `scroll`. A failed event becomes a dead letter, and the other events of its batch are accepted. The
status is 200 if at least one event was accepted or unused, else 400. A refused request (too large, too fast,
unsigned …) has status 4xx or 503. Its events are not stored, and it may be sent again.

If no answer arrives, send the events again with the same `event_id`: the loader counts them once.
"""

from boat.collect.core import Collector, CollectRequest, CollectResult, Policy, Refusal
from boat.collect.journal import Journal
from boat.collect.validation import CollectReason

__all__ = ["CollectReason", "CollectRequest", "CollectResult", "Collector", "Journal", "Policy", "Refusal"]
