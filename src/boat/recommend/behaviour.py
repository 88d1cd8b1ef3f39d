"""The behaviour tests of recommenders; see `boat.evaluation.behaviour`.

The ideas are from RecList (Chia et al., 2022) and EvalRS (Tagliabue et al., 2022).
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
from boat.models.parameters import from_archive
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.recommend import counts, slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import RecommendTestSet
from boat.recommend.parameters import RecommendParameters
from boat.recommend.slices import Cut

suite = Suite["Bed"]()

UNKNOWN_PRODUCT = "a product that no shop has"

_MAX_STARTS = 200
"""Starts of sessions in a test."""
_FEWEST = 20
"""A test with fewer cases does not apply."""
_TOP = 10
_DIRECTIONS = 32


@dataclass(frozen=True)
class Bed:
    """A model and its test data.

    Attributes:
        model: The exported model.
        test_set: The test days.
        ranked: The model's lists for all targets.
    """

    model: SavedModel
    test_set: RecommendTestSet
    ranked: Ranked

    @property
    def keeps_repeats(self) -> bool:
        """Return whether the model may list the current product."""
        return from_archive(self.model.manifest.parameters, RecommendParameters).repeats == "keep"

    @cached_property
    def starts(self) -> list[list[str]]:
        """Return the product ids of a fixed sample of session starts, oldest first."""
        targets, offsets = self.test_set.targets, self.test_set.sessions.offsets
        chosen = np.random.default_rng(0).permutation(len(targets))[:_MAX_STARTS]
        begin = offsets[targets.session[chosen]]
        products = self.test_set.sessions.strings("product_id")
        return [
            products[max(first, last - _TOP) : last].tolist()
            for first, last in zip(begin, begin + targets.length[chosen], strict=True)
        ]

    @cached_property
    def long_starts(self) -> list[list[str]]:
        """Return the starts with four known products or more, without repeated products."""
        vocabulary = set(self.test_set.names[: self.test_set.vocabulary])
        distinct = ([name for name in dict.fromkeys(start) if name in vocabulary] for start in self.starts)
        return [start for start in distinct if len(start) >= 4]

    @cached_property
    def frequent(self) -> list[str]:
        """Return a sample of the products viewed on the validation days, drawn in proportion to their views."""
        events = self.test_set.fit.events
        late = events["event_time"].to_numpy() >= np.datetime64(self.test_set.manifest.split.validation_from)
        viewed = self.test_set.fit.codes("product_id", self.test_set.names)[late]
        sample = np.random.default_rng(0).permutation(viewed)[: 2 * _MAX_STARTS]
        return list(dict.fromkeys(self.test_set.names[sample - 1].tolist()))[:_MAX_STARTS]

    @cached_property
    def directions(self) -> np.ndarray:
        """Return unit vectors of products from their co-occurrence, [codes, dimensions]; zeros for new products."""
        follows = counts.followers(self.test_set.learned, self.test_set.vocabulary)
        vectors = counts.directions(follows, _DIRECTIONS, seed=0)
        new = len(self.test_set.names) - self.test_set.vocabulary
        return np.vstack([vectors, np.zeros((new, vectors.shape[1]), np.float32)])

    @cached_property
    def current(self) -> np.ndarray:
        """Return the code of the product before each target, [targets]."""
        targets = self.test_set.targets
        codes: np.ndarray = self.test_set.codes[self.test_set.sessions.offsets[targets.session] + targets.length - 1]
        return codes

    @cached_property
    def drawn(self) -> np.ndarray:
        """Return a random product for each target, drawn in proportion to the views of the products."""
        shares = self.test_set.counts / self.test_set.counts.sum()
        return np.random.default_rng(1).choice(self.test_set.vocabulary, len(self.test_set.target), p=shares) + 1

    def lists(self, starts: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the product ids that the model lists after starts of sessions."""
        if not starts:
            return []
        return [answer["product_id"] for answer in self.model.predict(sessions.instances(_events(starts, self._now)))]

    def change(self, before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> float:
        """Return the share of the first ten products that changes between two sets of starts."""
        return 1 - _overlap(self.lists(before), self.lists(after))

    @property
    def _now(self) -> float:
        return self.test_set.manifest.split.test_from.replace(tzinfo=UTC).timestamp()


def _events(starts: Sequence[Sequence[str]], began: float) -> list[list[SessionEvent]]:
    return [
        [
            {"event_type": "detail", "product_id": name, "event_time": began + 30.0 * position}
            for position, name in enumerate(start)
        ]
        for start in starts
    ]


def _overlap(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> float:
    """Return the mean share of the first ten products that two sets of lists have in common."""
    shares = [
        len(set(old[:_TOP]) & set(new[:_TOP])) / min(_TOP, len(old)) for old, new in zip(before, after, strict=True)
    ]
    return float(np.mean(shares))


@suite.at_least(1, "critical")
def answers_are_numbers(bed: Bed) -> float:
    """Measure the share of scores that are finite numbers. Training can turn weights into NaN."""
    return float(np.mean(np.isfinite(bed.ranked.scores)))


@suite.at_least(1, "critical")
def scores_fall_along_the_list(bed: Bed) -> float:
    """Measure the share of lists with falling scores. The page shows a list from its start."""
    return float(np.mean(np.all(np.diff(bed.ranked.scores, axis=1) <= 0, axis=1)))


@suite.at_least(0.4, "critical")
def best_come_first(bed: Bed) -> float | None:
    """Measure the share of hits in the first half of the list. Well below a half, the list is upside down."""
    hit = bed.ranked.products == bed.test_set.target[:, None]
    positions = np.nonzero(hit)[1]
    return float(np.mean(positions < hit.shape[1] / 2)) if len(positions) >= _FEWEST else None


@suite.at_most(0, "critical")
def no_product_twice(bed: Bed) -> float:
    """Measure the share of lists with a repeated product, which wastes space on the page."""
    ordered = np.sort(bed.ranked.products, axis=1)
    return float(np.mean(np.any((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] > 0), axis=1)))


@suite.at_most(0, "critical")
def current_product_is_left_out(bed: Bed) -> float:
    """Measure the share of lists with the current product. Models with `repeats="keep"` may list it: 0."""
    if bed.keeps_repeats:
        return 0.0
    return float(np.mean(np.any(bed.ranked.products == bed.current[:, None], axis=1)))


@suite.at_least(0.99, "critical")
def only_products_of_the_shop(bed: Bed) -> float:
    """Measure the share of listed products that were viewed or are in the catalogue."""
    return float(np.mean(bed.ranked.products > 0))


@suite.at_least(0.8, "critical")
def vocabulary_is_current(bed: Bed) -> float | None:
    """Measure the share of products viewed on the validation days that the model knows: its list after such a product
    differs from its list for an empty session. The share is low if the model is old or from another shop."""
    if len(bed.frequent) < _FEWEST:
        return None
    (empty,) = bed.lists([[]])
    answers = bed.lists([[name] for name in bed.frequent])
    defaults = [[product for product in empty if product != name][:_TOP] for name in bed.frequent]
    changed = [answer[: len(default)] != default for answer, default in zip(answers, defaults, strict=True)]
    return float(np.mean(changed))


@suite.at_most(0.5, "critical")
def the_session_matters(bed: Bed) -> float | None:
    """Measure the share of sessions with the most frequent first product. Shoppers need different lists."""
    if bed.test_set.vocabulary < _FEWEST:
        return None
    first = bed.ranked.products[:, 0]
    return float(np.unique(first, return_counts=True)[1].max() / len(first))


@suite.at_least(-0.1, "critical")
def newest_product_matters_most(bed: Bed) -> float | None:
    """Compare how much of the list changes if the newest product of a session is replaced, or the oldest. Well below 0,
    the model reads sessions from the wrong end."""
    starts = bed.long_starts
    if len(starts) < _FEWEST:
        return None
    replacements = [starts[number - 1][0] for number in range(len(starts))]
    newest = [[*start[:-1], product] for start, product in zip(starts, replacements, strict=True)]
    oldest = [[product, *start[1:]] for start, product in zip(starts, replacements, strict=True)]
    return bed.change(starts, newest) - bed.change(starts, oldest)


@suite.at_most(0.5, "critical", of_unseen_days=True)
def new_products_are_not_found(bed: Bed) -> float | None:
    """Measure HR@20 of products that are new on the test days, relative to HR@20 of known products. A model that finds
    new products has learned from the test days. Products with description vectors do not count: a model may recommend
    them before their first view."""
    described = np.append(False, bed.test_set.products["described"].to_numpy())[bed.test_set.target]
    new = (bed.test_set.target > bed.test_set.vocabulary) & ~described
    hits = bed.test_set.values(bed.ranked)["hr_at_20"]
    old = bed.test_set.target <= bed.test_set.vocabulary
    if new.sum() < _FEWEST or not hits[old].any():
        return None
    return float(hits[new].mean() / hits[old].mean())


@suite.at_most(1.25, "critical", of_unseen_days=True)
def test_days_are_not_easier(bed: Bed) -> float | None:
    """Divide MRR@20 on the test days (low end of its interval) by MRR@20 on the validation days (high end), which the
    exported model has learned from. Far above 1, the model has learned from the test days."""
    before = bed.test_set.on_validation_days(limit=2_000)
    values = before.values(before.predict(bed.model))["mrr_at_20"]
    ((_, high),) = before.draws.intervals(values[:, None])
    ((low, _),) = bed.test_set.draws.intervals(bed.test_set.values(bed.ranked)["mrr_at_20"][:, None])
    return float(low / high) if high else None


@suite.at_least(1, "critical")
def an_empty_session_is_answered(bed: Bed) -> float:
    """Measure the share of the list that is filled with distinct products of the shop for an empty session."""
    return _filled(bed, [])


@suite.at_least(1, "critical")
def an_unknown_product_is_answered(bed: Bed) -> float:
    """Measure the same share after an unknown product, because new products appear every day."""
    return _filled(bed, [UNKNOWN_PRODUCT])


def _filled(bed: Bed, start: list[str]) -> float:
    (listed,) = bed.lists([start])
    return len(set(listed) & set(bed.test_set.names)) / int(bed.ranked.products.shape[1])


@suite.at_least(0.9, "critical")
def other_sessions_change_nothing(bed: Bed) -> float:
    """Measure the share of sessions with the same first ten products alone and in a request with other sessions."""
    starts = bed.starts[:20]
    together, alone = bed.lists(starts), [bed.lists([start])[0] for start in starts]
    return float(np.mean([batched[:_TOP] == single[:_TOP] for batched, single in zip(together, alone, strict=True)]))


@suite.at_most(100, "critical")
def milliseconds_an_answer(bed: Bed) -> float:
    """Measure the median time of a request with one session, in ms. A page waits for it."""
    times = []
    for start in bed.starts[:20]:
        request = sessions.instances(_events([start], 0.0))
        began = time.perf_counter()
        bed.model.predict(request)
        times.append(1000 * (time.perf_counter() - began))
    return float(statistics.median(times))


@suite.at_most(2_000, "critical")
def megabytes_of_the_model(bed: Bed) -> float:
    """Measure the size of the unpacked model, in MB. An endpoint with 4 GB of memory holds two during an update."""
    return float(bed.model.bytes / 1e6)


@suite.at_most(0.2)
def hits_do_not_depend_on_popularity(bed: Bed) -> float | None:
    """Measure the mean distance of HR@20 of popular, middling and rare products to HR@20 of all (MRED). It is large if
    the model serves only favourites."""
    return _mred(bed, slices.popularity(bed.test_set), without="new")


@suite.at_most(0.2)
def hits_do_not_depend_on_session_length(bed: Bed) -> float | None:
    """Measure the mean distance of HR@20 after few and many items to HR@20 of all (MRED)."""
    return _mred(bed, slices.session_length(bed.test_set))


def _mred(bed: Bed, cut: Cut, without: str = "") -> float | None:
    """Return the miss rate equality difference of EvalRS."""
    hits = bed.test_set.values(bed.ranked)["hr_at_20"]
    masks = [cut.part == number for number, name in enumerate(cut.names) if name != without]
    large = [mask for mask in masks if mask.sum() >= _FEWEST]
    return float(np.mean([abs(hits[mask].mean() - hits.mean()) for mask in large])) if len(large) > 1 else None


@suite.at_least(0.1)
def misses_are_near_the_target(bed: Bed) -> float | None:
    """Measure the similarity of wrong first products to the target, less the similarity of random popular products.
    The similarity is the cosine of co-occurrence. A miss near the target still helps a shopper."""
    missed = (bed.ranked.products[:, 0] != bed.test_set.target) & (bed.test_set.target <= bed.test_set.vocabulary)
    if missed.sum() < _FEWEST:
        return None
    first, target = np.maximum(bed.ranked.products[missed, 0], 0), bed.test_set.target[missed]
    return float(np.mean(_cosine(bed, first, target)) - np.mean(_cosine(bed, bed.drawn[missed], target)))


@suite.at_least(0.1)
def lists_are_near_the_current_product(bed: Bed) -> float:
    """Measure the similarity of listed products to the current one, less the similarity of random popular products
    (distance to query)."""
    listed = np.maximum(bed.ranked.products[:, :_TOP], 0)
    current = np.where(bed.current <= bed.test_set.vocabulary, bed.current, 0)
    near = _cosine(bed, listed.ravel(), np.repeat(current, listed.shape[1]))
    return float(np.mean(near) - np.mean(_cosine(bed, bed.drawn, current)))


def _cosine(bed: Bed, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    cosines: np.ndarray = np.einsum("ij,ij->i", bed.directions[left], bed.directions[right])
    return cosines


@suite.at_most(0.2)
def prices_stay_near(bed: Bed) -> float | None:
    """Measure the share of first products that cost more than double or less than half of the current one, less the
    same share of the targets. A shopper who views a scarf should not get a sofa."""
    price = np.append(np.nan, bed.test_set.products["price"].to_numpy())
    current = price[bed.current]
    listed, target = price[np.maximum(bed.ranked.products[:, 0], 0)], price[bed.test_set.target]
    priced = (listed > 0) & (target > 0) & (current > 0)
    if priced.sum() < _FEWEST:
        return None
    return float(np.mean(_far(listed, current)[priced]) - np.mean(_far(target, current)[priced]))


def _far(price: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (price > 2 * reference) | (price < reference / 2)


@suite.at_least(0.05)
def coverage_is_large(bed: Bed) -> float:
    """Measure the share of the products that is in any list, of as many as the lists can hold."""
    listed = bed.ranked.products[bed.ranked.products > 0]
    return len(np.unique(listed)) / min(len(bed.test_set.names), max(len(listed), 1))


@suite.at_most(0.3)
def popularity_is_not_pushed(bed: Bed) -> float:
    """Measure the mean popularity percentile of listed products, less the percentile of targets."""
    return float(bed.test_set.score(bed.ranked)["popularity_bias"])


@suite.at_least(0.1)
def lists_are_diverse(bed: Bed) -> float | None:
    """Measure the mean distance (1 - cosine of co-occurrence) between the first ten products of a list."""
    if bed.ranked.products.shape[1] < 2:
        return None
    vectors = bed.directions[np.maximum(bed.ranked.products[:2_000, :_TOP], 0)]
    likeness = np.einsum("lid,ljd->lij", vectors, vectors)
    pairs = np.triu_indices(vectors.shape[1], 1)
    return float(1 - np.mean(likeness[:, pairs[0], pairs[1]]))


@suite.at_most(0.5)
def order_of_old_products_matters_little(bed: Bed) -> float | None:
    """Measure how much of the first ten changes if all but the last two products of a session are shuffled."""
    draw, starts = np.random.default_rng(2), bed.long_starts
    if len(starts) < _FEWEST:
        return None
    return bed.change(starts, [[*draw.permutation(start[:-2]).tolist(), *start[-2:]] for start in starts])


@suite.at_most(0.5)
def the_oldest_product_changes_little(bed: Bed) -> float | None:
    """Measure how much of the first ten changes without the oldest product of a session."""
    starts = bed.long_starts
    return bed.change(starts, [start[1:] for start in starts]) if len(starts) >= _FEWEST else None


@suite.at_most(0.5)
def an_unknown_product_changes_little(bed: Bed) -> float | None:
    """Measure how much of the first ten changes after one more product, which the model cannot know."""
    starts = bed.long_starts
    return bed.change(starts, [[*start, UNKNOWN_PRODUCT] for start in starts]) if len(starts) >= _FEWEST else None


@suite.at_most(0.3)
def a_repeated_view_changes_little(bed: Bed) -> float | None:
    """Measure how much of the first ten changes if the newest product is viewed again. The test does not apply to
    models with `repeats="keep"`."""
    if bed.keeps_repeats or len(bed.long_starts) < _FEWEST:
        return None
    return bed.change(bed.long_starts, [[*start, start[-1]] for start in bed.long_starts])
