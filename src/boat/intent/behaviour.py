"""What a purchase-intent model must do, and should: see `boat.evaluation.behaviour`."""

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

_ASKED = 300
"""Sessions made for a test, at most."""
_FEW = 20
"""Of fewer cases no share is told."""
_LONGEST = 50

Start = list[SessionEvent]


@dataclass(frozen=True)
class Bed:
    """A model and what it is tried on.

    Attributes:
        model: The model as exported.
        fit: Sessions that it may have learned from.
        test: Sessions of the test days.
        session: Session of each judged start, int64 [asked].
        shown: Events in it, int64 [asked].
        probability: What the model says of it, float64 [asked].
    """

    model: SavedModel
    fit: Sessions
    test: Sessions
    session: np.ndarray
    shown: np.ndarray
    probability: np.ndarray

    @cached_property
    def starts(self) -> list[Start]:
        """Starts of test sessions: a fixed draw."""
        chosen = np.random.default_rng(0).permutation(len(self.session))[:_ASKED]
        return [self._start(*cut) for cut in zip(self.session[chosen], self.shown[chosen], strict=True)]

    @cached_property
    def undecided(self) -> list[Start]:
        """Those that look at a product and have nothing in the cart yet."""
        return [
            start
            for start in self.starts
            if _last_product(start) and not {"add", "purchase"} & {event["event_type"] for event in start}
        ]

    def chances(self, starts: Sequence[Start]) -> np.ndarray:
        """What the model says of starts of sessions, float64 [starts]."""
        return self.model.answer(sessions.instances(starts))["purchase"].astype(np.float64)

    def buying(self, event_type: str) -> tuple[float, float, int]:
        """Share of buyers among the known sessions with and without an event of a type, and how many have one."""
        rows = np.flatnonzero(self.fit.strings("event_type") == event_type)
        number = np.unique(np.searchsorted(self.fit.offsets, rows, side="right") - 1)
        having = np.zeros(len(self.fit), bool)
        having[number] = True
        buys = self.fit.events["is_purchase"].to_numpy()[self.fit.offsets[:-1]].astype(bool)
        if having.all() or not having.any():
            return 0.0, 0.0, 0
        return float(buys[having].mean()), float(buys[~having].mean()), int(having.sum())

    def _start(self, session: int, shown: int) -> Start:
        begin = self.test.offsets[session]
        rows = self.test.events.slice(max(begin, begin + shown - _LONGEST), min(shown, _LONGEST))
        part = Sessions(rows, np.array([0, len(rows)]))
        columns = (part.strings("event_type"), part.strings("product_id"), part.strings("url"), part.seconds)
        return [
            {"event_type": kind, "product_id": product, "url": url, "event_time": float(seconds)}
            for kind, product, url, seconds in zip(*columns, strict=True)
        ]


def _last_product(start: Start) -> str:
    return next((event["product_id"] for event in reversed(start) if event["product_id"]), "")


def _then(start: Start, *event_types: str) -> Start:
    """The start, and more events with its last product, ten seconds apart."""
    more: Start = [
        {
            "event_type": kind,
            "product_id": _last_product(start),
            "url": start[-1]["url"],
            "event_time": start[-1]["event_time"] + 10.0 * place,
        }
        for place, kind in enumerate(event_types, start=1)
    ]
    return [*start, *more]


@suite.at_least(1, "critical")
def chances_are_shares(bed: Bed) -> float:
    """The share of answers that are numbers from 0 to 1. Weights that have become NaN in training show here."""
    return float(np.mean((bed.probability >= 0) & (bed.probability <= 1)))


@suite.at_least(0.05, "critical")
def the_session_matters(bed: Bed) -> float:
    """The spread of the answers over their mean. One chance for everybody tells nobody apart."""
    return float(np.std(bed.probability) / np.mean(bed.probability))


@suite.at_least(0.45, "critical")
def buyers_come_before_others(bed: Bed) -> float | None:
    """How often a start of a session that buys has the higher chance than one of a session that does not (ROC-AUC).
    Below a half, the answers are upside down."""
    buys = bed.test.events["is_purchase"].to_numpy()[bed.test.offsets[:-1]].astype(bool)[bed.session]
    few = min(buys.sum(), (~buys).sum()) < _FEW
    return None if few else metrics.roc_auc(buys, bed.probability)


@suite.at_least(0.6, "critical")
def adding_to_the_cart_raises_intent(bed: Bed) -> float | None:
    """The share of sessions whose chance rises when the product that is looked at goes into an empty cart. Asked where
    sessions with an add did buy more often."""
    with_add, without, many = bed.buying("add")
    if many < _FEW or with_add <= without or len(bed.undecided) < _FEW:
        return None
    added = [_then(start, "add") for start in bed.undecided]
    return float(np.mean(bed.chances(added) > bed.chances(bed.undecided)))


@suite.at_most(0.02)
def taking_it_out_of_the_cart_does_not_raise_intent(bed: Bed) -> float | None:
    """The mean change of the chance when the product is taken out of the cart again. Asked where shoppers do that."""
    if bed.buying("remove")[2] < _FEW or len(bed.undecided) < _FEW:
        return None
    added, removed = ([_then(start, *kinds) for start in bed.undecided] for kinds in (("add",), ("add", "remove")))
    return float(np.mean(bed.chances(removed) - bed.chances(added)))


@suite.at_least(1, "critical")
def an_empty_session_is_answered(bed: Bed) -> float:
    """1 where somebody who has just come has a chance from 0 to 1."""
    (chance,) = bed.chances([[]])
    return float(0 <= chance <= 1)


@suite.at_most(0.001, "critical")
def company_does_not_matter(bed: Bed) -> float:
    """The largest difference between the chance of a session alone and in one request with others."""
    together = bed.chances(bed.starts[:20])
    return float(np.max(np.abs(together - [bed.chances([start])[0] for start in bed.starts[:20]])))


@suite.at_most(0.1)
def new_products_do_not_confuse(bed: Bed) -> float:
    """The mean change of the chance when all products of a session are ones that nobody has ever seen."""
    renamed: list[Start] = [
        [{**event, "product_id": event["product_id"] and f"unheard of {event['product_id']}"} for event in start]
        for start in bed.starts
    ]
    return float(np.mean(np.abs(bed.chances(renamed) - bed.chances(bed.starts))))


@suite.at_most(0.05)
def a_week_later_is_the_same(bed: Bed) -> float:
    """The mean change of the chance when the whole session comes a week later."""
    later: list[Start] = [
        [{**event, "event_time": event["event_time"] + WEEK} for event in start] for start in bed.starts
    ]
    return float(np.mean(np.abs(bed.chances(later) - bed.chances(bed.starts))))


@suite.at_most(100, "critical")
def milliseconds_an_answer(bed: Bed) -> float:
    """The median time of one session alone on the machine of the evaluation, in ms. A page waits for it."""
    taken = []
    for start in bed.starts[:20]:
        began = time.perf_counter()
        bed.chances([start])
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


@suite.at_most(2_000, "critical")
def megabytes_of_the_model(bed: Bed) -> float:
    """What the unpacked model takes, in MB. An endpoint of 4 GB of memory needs room for two while it swaps them."""
    return bed.model.bytes / 1e6
