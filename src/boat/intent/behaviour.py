"""The behaviour tests of intent models; see `boat.evaluation.behaviour`."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from boat import metrics
from boat.evaluation.behaviour import Suite
from boat.models import sessions
from boat.models.examples import Sessions
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent

suite = Suite["Bed"]()

WEEK = 7 * 86_400.0

_MAX_STARTS = 300
"""Starts of sessions in a test."""
_FEWEST = 20
"""A test with fewer cases does not apply."""
_MAX_EVENTS = 50

Start = list[SessionEvent]


@dataclass(frozen=True)
class Bed:
    """A model and its test data.

    Attributes:
        model: The exported model.
        fit: Sessions of the days before the test.
        test: Sessions of the test days.
        session: Number of the session of each start, int64 [starts].
        length: Events in each start, int64 [starts].
        probability: The model's answer to each start, float64 [starts].
    """

    model: SavedModel
    fit: Sessions
    test: Sessions
    session: np.ndarray
    length: np.ndarray
    probability: np.ndarray

    @cached_property
    def starts(self) -> list[Start]:
        """Return a fixed sample of starts of test sessions."""
        chosen = np.random.default_rng(0).permutation(len(self.session))[:_MAX_STARTS]
        return [self._start(*cut) for cut in zip(self.session[chosen], self.length[chosen], strict=True)]

    @cached_property
    def undecided(self) -> list[Start]:
        """Return the starts with a viewed product and an empty cart."""
        return [
            start
            for start in self.starts
            if _last_product(start) and not {"add", "purchase"} & {event["event_type"] for event in start}
        ]

    def chances(self, starts: Sequence[Start]) -> np.ndarray:
        """Return the model's answers to starts of sessions, float64 [starts]."""
        return self.model.answer(sessions.instances(starts))["purchase"].astype(np.float64)

    def buying(self, event_type: str) -> tuple[float, float, int]:
        """Return the share of buyers among sessions with an event of a type and without it, and how many have it."""
        rows = np.flatnonzero(self.fit.equal("event_type", event_type))
        number = np.unique(np.searchsorted(self.fit.offsets, rows, side="right") - 1)
        having = np.zeros(len(self.fit), bool)
        having[number] = True
        buys = self.fit.events["is_purchase"].to_numpy()[self.fit.offsets[:-1]].astype(bool)
        if having.all() or not having.any():
            return 0.0, 0.0, 0
        return float(buys[having].mean()), float(buys[~having].mean()), int(having.sum())

    def _start(self, session: int, length: int) -> Start:
        begin = self.test.offsets[session]
        rows = self.test.events.slice(max(begin, begin + length - _MAX_EVENTS), min(length, _MAX_EVENTS))
        part = Sessions(rows, np.array([0, len(rows)]))
        columns = (part.strings("event_type"), part.strings("product_id"), part.strings("url"), part.seconds)
        return [
            {"event_type": event_type, "product_id": product, "url": url, "event_time": float(seconds)}
            for event_type, product, url, seconds in zip(*columns, strict=True)
        ]


def _last_product(start: Start) -> str:
    return next((event["product_id"] for event in reversed(start) if event["product_id"]), "")


def _then(start: Start, *event_types: str) -> Start:
    """Append events with the last product of the start, ten seconds apart."""
    events: Start = [
        {
            "event_type": event_type,
            "product_id": _last_product(start),
            "url": start[-1]["url"],
            "event_time": start[-1]["event_time"] + 10.0 * number,
        }
        for number, event_type in enumerate(event_types, start=1)
    ]
    return [*start, *events]


@suite.at_least(1, "critical")
def chances_are_shares(bed: Bed) -> float:
    """Measure the share of answers that are numbers from 0 to 1. Training can turn weights into NaN."""
    return float(np.mean((bed.probability >= 0) & (bed.probability <= 1)))


@suite.at_least(0.05, "critical")
def the_session_matters(bed: Bed) -> float:
    """Divide the standard deviation of the answers by their mean. Equal answers do not rank shoppers."""
    return float(np.std(bed.probability) / np.mean(bed.probability))


@suite.at_least(0.45, "critical")
def buyers_have_higher_chances(bed: Bed) -> float | None:
    """Measure how often a session that buys has a higher chance than a session that does not (ROC-AUC). Below a half,
    the answers are upside down."""
    buys = bed.test.events["is_purchase"].to_numpy()[bed.test.offsets[:-1]].astype(bool)[bed.session]
    few = min(buys.sum(), (~buys).sum()) < _FEWEST
    return None if few else metrics.roc_auc(buys, bed.probability)


@suite.at_least(0.6, "critical")
def adding_to_the_cart_raises_intent(bed: Bed) -> float | None:
    """Measure the share of sessions whose chance rises when the current product goes into an empty cart. The test
    applies if sessions with an add bought more often."""
    with_add, without, adds = bed.buying("add")
    if adds < _FEWEST or with_add <= without or len(bed.undecided) < _FEWEST:
        return None
    added = [_then(start, "add") for start in bed.undecided]
    return float(np.mean(bed.chances(added) > bed.chances(bed.undecided)))


@suite.at_most(0.02)
def removing_from_the_cart_does_not_raise_intent(bed: Bed) -> float | None:
    """Measure the mean change of the chance when the product is removed from the cart again."""
    if bed.buying("remove")[2] < _FEWEST or len(bed.undecided) < _FEWEST:
        return None
    added, removed = ([_then(start, *types) for start in bed.undecided] for types in (("add",), ("add", "remove")))
    return float(np.mean(bed.chances(removed) - bed.chances(added)))


@suite.at_least(1, "critical")
def an_empty_session_is_answered(bed: Bed) -> float:
    """Return 1 if the chance of an empty session is from 0 to 1."""
    (chance,) = bed.chances([[]])
    return float(0 <= chance <= 1)


@suite.at_most(0.001, "critical")
def other_sessions_change_nothing(bed: Bed) -> float:
    """Measure the largest difference between the chance of a session alone and in a request with other sessions."""
    together = bed.chances(bed.starts[:20])
    return float(np.max(np.abs(together - [bed.chances([start])[0] for start in bed.starts[:20]])))


@suite.at_most(0.1)
def unknown_products_change_little(bed: Bed) -> float:
    """Measure the mean change of the chance when all products of a session are replaced by unknown products."""
    renamed: list[Start] = [
        [{**event, "product_id": event["product_id"] and f"unknown {event['product_id']}"} for event in start]
        for start in bed.starts
    ]
    return float(np.mean(np.abs(bed.chances(renamed) - bed.chances(bed.starts))))


@suite.at_most(0.05)
def a_week_changes_little(bed: Bed) -> float:
    """Measure the mean change of the chance when the whole session is a week later."""
    later: list[Start] = [
        [{**event, "event_time": event["event_time"] + WEEK} for event in start] for start in bed.starts
    ]
    return float(np.mean(np.abs(bed.chances(later) - bed.chances(bed.starts))))


@suite.at_most(100, "critical")
def milliseconds_an_answer(bed: Bed) -> float:
    """Measure the median time of a request with one session, in ms. A page waits for it."""
    times = []
    for start in bed.starts[:20]:
        began = time.perf_counter()
        bed.chances([start])
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


@suite.at_most(2_000, "critical")
def megabytes_of_the_model(bed: Bed) -> float:
    """Measure the size of the unpacked model, in MB. An endpoint with 4 GB of memory holds two during an update."""
    return bed.model.bytes / 1e6
