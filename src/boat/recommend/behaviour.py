"""What a next-item model must do, and should: see `boat.evaluation.behaviour`.

The ideas are those of RecList (Chia et al., 2022) and EvalRS (Tagliabue et al., 2022).
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property

import numpy as np

from boat.evaluation.behaviour import Suite
from boat.models import sessions
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.recommend import counts, slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import NextItems
from boat.recommend.slices import Cut

suite = Suite["Bed"]()

UNHEARD_OF = "a product that no shop has"

_ASKED = 200
"""Sessions made for a test, at most."""
_FEW = 20
"""Of fewer cases no share is told."""
_TOP = 10
_DIRECTIONS = 32


@dataclass(frozen=True)
class Bed:
    """A model and what it is tried on.

    Attributes:
        model: The model as exported.
        asked: The test days.
        ranked: Its lists for all targets of these.
    """

    model: SavedModel
    asked: NextItems
    ranked: Ranked

    @cached_property
    def starts(self) -> list[list[str]]:
        """Product ids of starts of test sessions, oldest first: a fixed draw."""
        targets, offsets = self.asked.targets, self.asked.sessions.offsets
        chosen = np.random.default_rng(0).permutation(len(targets))[:_ASKED]
        begin = offsets[targets.session[chosen]]
        products = self.asked.sessions.strings("product_id")
        return [
            products[max(first, last - _TOP) : last].tolist()
            for first, last in zip(begin, begin + targets.shown[chosen], strict=True)
        ]

    @cached_property
    def long_starts(self) -> list[list[str]]:
        """Those with four known products or more, each once."""
        known = set(self.asked.names[: self.asked.known])
        once = ([name for name in dict.fromkeys(start) if name in known] for start in self.starts)
        return [start for start in once if len(start) >= 4]

    @cached_property
    def frequent(self) -> list[str]:
        """Products that shoppers looked at on the last days before the test, as often drawn as they were looked at."""
        events = self.asked.fit.events
        late = events["event_time"].to_numpy() >= np.datetime64(self.asked.manifest.split.validation_from)
        seen = self.asked.fit.strings("product_id")[late]
        return list(dict.fromkeys(np.random.default_rng(0).permutation(seen)[: 2 * _ASKED].tolist()))[:_ASKED]

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors of products by how they follow each other, [codes, dimensions]; zeros for new products."""
        follows = counts.followers(self.asked.learned, self.asked.known)
        known = counts.directions(follows, _DIRECTIONS, seed=0)
        return np.vstack([known, np.zeros((len(self.asked.names) - self.asked.known, known.shape[1]), np.float32)])

    @cached_property
    def current(self) -> np.ndarray:
        """Code of the product that is looked at before each target, [targets]."""
        targets = self.asked.targets
        codes: np.ndarray = self.asked.codes[self.asked.sessions.offsets[targets.session] + targets.shown - 1]
        return codes

    @cached_property
    def drawn(self) -> np.ndarray:
        """For each target a product at random, as often as products are looked at: what chance would list."""
        shares = self.asked.counts / self.asked.counts.sum()
        return np.random.default_rng(1).choice(self.asked.known, len(self.asked.target), p=shares) + 1

    def lists(self, starts: Sequence[Sequence[str]]) -> list[list[str]]:
        """The product ids that the model lists after starts of sessions."""
        if not starts:
            return []
        return [answer["product_id"] for answer in self.model.predict(sessions.instances(_events(starts, self._now)))]

    def change(self, before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> float:
        """How much of the first ten products changes between two lots of starts; 0 nothing, 1 everything."""
        return 1 - _overlap(self.lists(before), self.lists(after))

    @property
    def _now(self) -> float:
        return self.asked.manifest.split.test_from.replace(tzinfo=UTC).timestamp()


def _events(starts: Sequence[Sequence[str]], began: float) -> list[list[SessionEvent]]:
    return [
        [
            {"event_type": "detail", "product_id": name, "event_time": began + 30.0 * place}
            for place, name in enumerate(start)
        ]
        for start in starts
    ]


def _overlap(lists: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> float:
    """Mean share of the first ten products that two lots of lists have in common."""
    shares = [
        len(set(one[:_TOP]) & set(other[:_TOP])) / min(_TOP, len(one)) for one, other in zip(lists, others, strict=True)
    ]
    return float(np.mean(shares))


@suite.at_least(1, "critical")
def answers_are_numbers(bed: Bed) -> float:
    """The share of scores that are finite numbers. Weights that have become NaN in training show here."""
    return float(np.mean(np.isfinite(bed.ranked.scores)))


@suite.at_least(1, "critical")
def scores_fall_along_the_list(bed: Bed) -> float:
    """The share of lists in which no score is above the one before it. The page shows the list from its start."""
    return float(np.mean(np.all(np.diff(bed.ranked.scores, axis=1) <= 0, axis=1)))


@suite.at_least(0.4, "critical")
def best_come_first(bed: Bed) -> float | None:
    """Of the products that were listed and came, the share that stood in the first half of the list. Well below a
    half, the list is upside down."""
    hit = bed.ranked.products == bed.asked.target[:, None]
    places = np.nonzero(hit)[1]
    return float(np.mean(places < hit.shape[1] / 2)) if len(places) >= _FEW else None


@suite.at_most(0, "critical")
def no_product_twice(bed: Bed) -> float:
    """The share of lists that hold a product twice: places of the page that are given away."""
    ordered = np.sort(bed.ranked.products, axis=1)
    return float(np.mean(np.any((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] > 0), axis=1)))


@suite.at_most(0, "critical")
def current_product_is_left_out(bed: Bed) -> float | None:
    """The share of lists that hold the product that is being looked at. Not asked of models that are to repeat."""
    if bed.model.manifest.parameters.get("repeats") == "keep":
        return None
    return float(np.mean(np.any(bed.ranked.products == bed.current[:, None], axis=1)))


@suite.at_least(0.99, "critical")
def only_products_of_the_shop(bed: Bed) -> float:
    """The share of listed products that shoppers have looked at or that are in the catalogue."""
    return float(np.mean(bed.ranked.products > 0))


@suite.at_least(0.8, "critical")
def vocabulary_is_current(bed: Bed) -> float | None:
    """The share of the products looked at on the last days before the test that the model knows: after such a product
    it lists others than after nothing at all. A vocabulary of another time, or another shop, shows here."""
    if len(bed.frequent) < _FEW:
        return None
    (empty,) = bed.lists([[]])
    answers = bed.lists([[name] for name in bed.frequent])
    without = [[other for other in empty if other != name][:_TOP] for name in bed.frequent]
    return float(np.mean([answer[: len(alone)] != alone for answer, alone in zip(answers, without, strict=True)]))


@suite.at_most(0.5, "critical")
def the_session_matters(bed: Bed) -> float | None:
    """The share of sessions that get the most frequent first product. One list for everybody is no recommendation."""
    first = bed.ranked.products[:, 0]
    return float(np.unique(first, return_counts=True)[1].max() / len(first)) if bed.asked.known >= _FEW else None


@suite.at_least(-0.1, "critical")
def newest_product_matters_most(bed: Bed) -> float | None:
    """How much more of the list changes when the newest product of a session is replaced than when the oldest is.
    Well below 0, the model reads sessions from the wrong end."""
    starts = bed.long_starts
    if len(starts) < _FEW:
        return None
    others = [starts[number - 1][0] for number in range(len(starts))]
    newest = [[*start[:-1], other] for start, other in zip(starts, others, strict=True)]
    oldest = [[other, *start[1:]] for start, other in zip(starts, others, strict=True)]
    return bed.change(starts, newest) - bed.change(starts, oldest)


@suite.at_most(0.5, "critical")
def nothing_of_the_test_days_is_known(bed: Bed) -> float | None:
    """HR@20 of products that first came on the test days, as a share of that of all others. What was not there when
    the model learned, it can hardly find: if it does, it has seen the test days. Not asked of products that the
    catalogue describes by a vector: these may be recommended before anybody has viewed them."""
    described = np.append(False, bed.asked.products["described"].to_numpy())[bed.asked.target]
    new = (bed.asked.target > bed.asked.known) & ~described
    hits = bed.asked.values(bed.ranked)["hr_at_20"]
    old = bed.asked.target <= bed.asked.known
    if new.sum() < _FEW or not hits[old].any():
        return None
    return float(hits[new].mean() / hits[old].mean())


@suite.at_most(1.25, "critical")
def no_better_on_days_it_has_not_seen(bed: Bed) -> float | None:
    """MRR@20 on the test days over that on the validation days, which the exported model has learned from; the low
    end of the one's interval over the high end of the other's. Far above 1, it has learned from the test days."""
    before = bed.asked.on_validation_days(most=2_000)
    seen = before.values(before.ask(bed.model))["mrr_at_20"]
    ((_, high),) = before.draws.intervals(seen[:, None])
    ((low, _),) = bed.asked.draws.intervals(bed.asked.values(bed.ranked)["mrr_at_20"][:, None])
    return float(low / high) if high else None


@suite.at_least(1, "critical")
def an_empty_session_is_answered(bed: Bed) -> float:
    """The share of places with a product of the shop, each once, for somebody who has just come."""
    return _filled(bed, [])


@suite.at_least(1, "critical")
def an_unknown_product_is_answered(bed: Bed) -> float:
    """The same after a product that nobody has ever seen: new products appear every day."""
    return _filled(bed, [UNHEARD_OF])


def _filled(bed: Bed, start: list[str]) -> float:
    (listed,) = bed.lists([start])
    return len(set(listed) & set(bed.asked.names)) / int(bed.ranked.products.shape[1])


@suite.at_least(0.9, "critical")
def company_does_not_matter(bed: Bed) -> float:
    """The share of sessions that get the same first ten alone and in one request with longer and shorter ones."""
    starts = bed.starts[:20]
    together, alone = bed.lists(starts), [bed.lists([start])[0] for start in starts]
    return float(np.mean([one[:_TOP] == other[:_TOP] for one, other in zip(together, alone, strict=True)]))


@suite.at_most(100, "critical")
def milliseconds_an_answer(bed: Bed) -> float:
    """The median time of one session alone on the machine of the evaluation, in ms. A page waits for it."""
    taken = []
    for start in bed.starts[:20]:
        request = sessions.instances(_events([start], 0.0))
        began = time.perf_counter()
        bed.model.predict(request)
        taken.append(1000 * (time.perf_counter() - began))
    return float(statistics.median(taken))


@suite.at_most(2_000, "critical")
def megabytes_of_the_model(bed: Bed) -> float:
    """What the unpacked model takes, in MB. An endpoint of 4 GB of memory needs room for two while it swaps them."""
    return float(bed.model.bytes / 1e6)


@suite.at_most(0.2)
def hits_are_alike_whatever_the_popularity(bed: Bed) -> float | None:
    """Mean distance of HR@20 of the popular, middling and rare products to that of all (MRED): whether it serves the
    favourites alone."""
    return _mred(bed, slices.popularity(bed.asked), without="new")


@suite.at_most(0.2)
def hits_are_alike_whatever_the_session_length(bed: Bed) -> float | None:
    """Mean distance of HR@20 after few and many items to that of all (MRED)."""
    return _mred(bed, slices.session_length(bed.asked))


def _mred(bed: Bed, cut: Cut, without: str = "") -> float | None:
    """Miss rate equality difference, as in EvalRS."""
    hits = bed.asked.values(bed.ranked)["hr_at_20"]
    masks = [cut.part == number for number, name in enumerate(cut.names) if name != without]
    large = [mask for mask in masks if mask.sum() >= _FEW]
    return float(np.mean([abs(hits[mask].mean() - hits.mean()) for mask in large])) if len(large) > 1 else None


@suite.at_least(0.1)
def being_less_wrong(bed: Bed) -> float | None:
    """Where the first product is a miss, its likeness to what came, less that of a product drawn by popularity; the
    likeness is the cosine of how products follow each other. A miss near the truth still helps a shopper."""
    missed = (bed.ranked.products[:, 0] != bed.asked.target) & (bed.asked.target <= bed.asked.known)
    if missed.sum() < _FEW:
        return None
    first, target = np.maximum(bed.ranked.products[missed, 0], 0), bed.asked.target[missed]
    return float(np.mean(_cosine(bed, first, target)) - np.mean(_cosine(bed, bed.drawn[missed], target)))


@suite.at_least(0.1)
def the_list_is_near_what_is_looked_at(bed: Bed) -> float:
    """Distance to the query: the likeness of the listed products to the current one, less that of products drawn by
    popularity."""
    listed = np.maximum(bed.ranked.products[:, :_TOP], 0)
    current = np.where(bed.current <= bed.asked.known, bed.current, 0)
    near = _cosine(bed, listed.ravel(), np.repeat(current, listed.shape[1]))
    return float(np.mean(near) - np.mean(_cosine(bed, bed.drawn, current)))


def _cosine(bed: Bed, codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.einsum("ij,ij->i", bed.directions[codes], bed.directions[others])
    return found


@suite.at_most(0.2)
def prices_stay_near(bed: Bed) -> float | None:
    """The share of first listed products that cost more than double, or less than half, of the current one, less that
    share among the products that came. Who looks at a scarf is not shown a sofa."""
    price = np.append(np.nan, bed.asked.products["price"].to_numpy())
    current = price[bed.current]
    listed, came = price[np.maximum(bed.ranked.products[:, 0], 0)], price[bed.asked.target]
    told = (listed > 0) & (came > 0) & (current > 0)
    if told.sum() < _FEW:
        return None
    return float(np.mean(_far(listed, current)[told]) - np.mean(_far(came, current)[told]))


def _far(price: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (price > 2 * other) | (price < other / 2)


@suite.at_least(0.05)
def coverage(bed: Bed) -> float:
    """The share of the products that is listed to anybody, of as many as the lists of the test days could hold."""
    listed = bed.ranked.products[bed.ranked.products > 0]
    return len(np.unique(listed)) / min(len(bed.asked.names), max(len(listed), 1))


@suite.at_most(0.3)
def popularity_is_not_pushed(bed: Bed) -> float:
    """The mean popularity percentile of what is listed, less that of what shoppers came to look at."""
    return float(bed.asked.figures(bed.ranked)["popularity_bias"])


@suite.at_least(0.1)
def lists_are_diverse(bed: Bed) -> float | None:
    """The mean distance (1 - cosine, of how products follow each other) between the first ten products of a list."""
    if bed.ranked.products.shape[1] < 2:
        return None
    vectors = bed.directions[np.maximum(bed.ranked.products[:2_000, :_TOP], 0)]
    likeness = np.einsum("lid,ljd->lij", vectors, vectors)
    pairs = np.triu_indices(vectors.shape[1], 1)
    return float(1 - np.mean(likeness[:, pairs[0], pairs[1]]))


@suite.at_most(0.5)
def order_of_old_products_matters_little(bed: Bed) -> float | None:
    """How much of the first ten changes when all but the last two products of a session are shuffled."""
    draw, starts = np.random.default_rng(2), bed.long_starts
    if len(starts) < _FEW:
        return None
    return bed.change(starts, [[*draw.permutation(start[:-2]).tolist(), *start[-2:]] for start in starts])


@suite.at_most(0.5)
def small_changes_have_small_effects(bed: Bed) -> float | None:
    """How much of the first ten changes when the oldest product of a session is left out."""
    starts = bed.long_starts
    return bed.change(starts, [start[1:] for start in starts]) if len(starts) >= _FEW else None


@suite.at_most(0.5)
def a_new_product_does_not_confuse(bed: Bed) -> float | None:
    """How much of the first ten changes when the session goes on to a product that the model cannot know."""
    starts = bed.long_starts
    return bed.change(starts, [[*start, UNHEARD_OF] for start in starts]) if len(starts) >= _FEW else None


@suite.at_most(0.3)
def looking_twice_is_looking_once(bed: Bed) -> float | None:
    """How much of the first ten changes when the newest product is looked at again. Not asked of models that are to
    repeat."""
    if bed.model.manifest.parameters.get("repeats") == "keep" or len(bed.long_starts) < _FEW:
        return None
    return bed.change(bed.long_starts, [[*start, start[-1]] for start in bed.long_starts])
