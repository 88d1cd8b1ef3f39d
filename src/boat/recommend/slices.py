"""Metrics of recommenders on parts of the targets, such as new products or long sessions."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from boat import metrics
from boat.evaluation.report import Difference, Slice
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import RecommendTestSet

METRICS = ("hr_at_20", "mrr_at_20")
FEWEST = 10
"""Slices of fewer targets are left out: their metrics are noise."""

_MAX_LABELS = 8
_LENGTHS = {"after 1 item": 1, "after 2 or 3": 2, "after 4 to 7": 4, "after 8 or more": 8}
_UNKNOWN = "not known"


@dataclass(frozen=True)
class Cut:
    """A division of the targets.

    Attributes:
        by: Property that divides them, such as `popularity`.
        names: Names of the parts.
        part: Number of the part of each target, int64 [targets].
    """

    by: str
    names: Sequence[str]
    part: np.ndarray


def cuts(test_set: RecommendTestSet) -> tuple[Cut, ...]:
    """Return all divisions of the targets."""
    price, age, category = _price(test_set), _age(test_set), _category(test_set)
    target = test_set.target - 1
    return (
        session_length(test_set),
        popularity(test_set),
        Cut("first seen", age.names, age.part[target]),
        Cut("price", price.names, price.part[target]),
        _most_frequent("category", category[target]),
        _by_label("day", _of_session(test_set, "started_at").astype("datetime64[D]")),
        _by_label("shop", _of_session(test_set, "shop")),
    )


def score(test_set: RecommendTestSet, ranked: Ranked, champion: Ranked | None = None) -> tuple[Slice, ...]:
    """Return `METRICS` of each slice, and their difference to the champion, with intervals."""
    columns = _columns(test_set, ranked)
    if champion:
        columns = np.column_stack([columns, columns - _columns(test_set, champion)])
    slices = []
    for cut, number in _parts(test_set):
        rows = cut.part == number
        part = columns[rows]
        intervals = metrics.Draws(test_set.targets.session[rows]).intervals(part)
        figures = [Difference(float(mean), *ends) for mean, ends in zip(part.mean(axis=0), intervals, strict=True)]
        means: dict[str, float] = {}
        for name, figure in zip(METRICS, figures, strict=False):
            means |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        differences = dict(zip(METRICS, figures[len(METRICS) :], strict=False))
        slices.append(Slice(cut.by, cut.names[number], len(part), means, differences))
    return tuple(slices)


def _columns(test_set: RecommendTestSet, ranked: Ranked) -> np.ndarray:
    """Return the values of `METRICS`, float64 [targets, metrics]."""
    values = test_set.values(ranked)
    return np.column_stack([values[name] for name in METRICS])


def popularity(test_set: RecommendTestSet) -> Cut:
    """Divide by popularity: the products of the first, second and last third of all views, and new products."""
    before = np.append(0, np.cumsum(test_set.counts)[:-1]) / test_set.counts.sum()
    new = np.full(len(test_set.names) - test_set.vocabulary, 3)
    third = np.append(np.minimum((before * 3).astype(int), 2), new)
    names = ("most popular third", "middle third", "rare third", "new")
    return Cut("popularity", names, third[test_set.target - 1])


def session_length(test_set: RecommendTestSet) -> Cut:
    """Divide by the number of items before the target."""
    part = np.searchsorted(list(_LENGTHS.values()), test_set.targets.length, side="right") - 1
    return Cut("session length", tuple(_LENGTHS), part)


def _parts(test_set: RecommendTestSet) -> Iterator[tuple[Cut, int]]:
    """Yield the parts with enough targets of each division that has two such parts or more."""
    for cut in cuts(test_set):
        sizes = np.bincount(cut.part, minlength=len(cut.names))
        large = np.flatnonzero(sizes >= FEWEST)
        yield from ((cut, int(number)) for number in large if len(large) > 1)


def _age(test_set: RecommendTestSet) -> Cut:
    """Divide products by the days of their first view."""
    late = test_set.fit.events["event_time"].to_numpy() >= np.datetime64(test_set.manifest.split.validation_from)
    before = np.zeros(len(test_set.names), bool)
    before[test_set.fit.codes("product_id", test_set.names)[~late] - 1] = True
    age = np.where(before, 0, np.where(np.arange(len(test_set.names)) < test_set.vocabulary, 1, 2))
    return Cut("first seen", ("on the train days", "on the validation days", "on the test days"), age)


def _price(test_set: RecommendTestSet) -> Cut:
    """Divide products by the quartile of their price."""
    price = test_set.products["price"].to_numpy()
    priced = price[np.isfinite(price)]
    edges = np.unique(np.quantile(priced, (0, 0.25, 0.5, 0.75, 1))) if len(priced) else np.zeros(2)
    names = [f"{low:,.4g} to {high:,.4g}" for low, high in itertools.pairwise(edges)] or [f"{edges[0]:,.4g}"]
    part = np.digitize(price, edges[1:-1])
    return Cut("price", (*names, _UNKNOWN), np.where(np.isfinite(price), part, len(names)))


def _category(test_set: RecommendTestSet) -> np.ndarray:
    """Return the top category of each product."""
    tops: np.ndarray = test_set.products["category"].str.split("/").str[0].replace("", _UNKNOWN).to_numpy()
    return tops


def _most_frequent(by: str, labels: np.ndarray) -> Cut:
    """Divide by the most frequent labels; all others are one part."""
    frequent = pd.Series(labels).value_counts().index[:_MAX_LABELS]
    return _by_label(by, np.where(np.isin(labels, frequent), labels, "others"))


def _by_label(by: str, labels: np.ndarray) -> Cut:
    names, part = np.unique(labels.astype(str), return_inverse=True)
    return Cut(by, names.tolist(), part)


def _of_session(test_set: RecommendTestSet, column: str) -> np.ndarray:
    """Return a column at the first event of each target's session."""
    first = test_set.sessions.offsets[test_set.targets.session]
    values: np.ndarray = test_set.sessions.events[column].take(pa.array(first)).to_numpy()
    return values
