"""How good a next-item model is for whom and what: its figures on parts of the targets."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from boat import metrics
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import NextItems

FIGURES = ("hr_at_20", "mrr_at_20")
FEWEST = 10
"""Slices of fewer targets are left out: their figures are noise."""

_MOST = 8
_LENGTHS = {"after 1 item": 1, "after 2 or 3": 2, "after 4 to 7": 4, "after 8 or more": 8}
_UNKNOWN = "not known"


@dataclass(frozen=True)
class Cut:
    """A way of cutting the targets.

    Attributes:
        by: What cuts them, such as `popularity`.
        names: Of the parts.
        part: Which part each target is in, int64 [targets].
    """

    by: str
    names: Sequence[str]
    part: np.ndarray


def cuts(asked: NextItems) -> tuple[Cut, ...]:
    """All ways of cutting."""
    price, age, category = _price(asked), _age(asked), _category(asked)
    target = asked.target - 1
    return (
        session_length(asked),
        popularity(asked),
        Cut("first seen", age.names, age.part[target]),
        Cut("price", price.names, price.part[target]),
        _most_frequent("category", category[target]),
        _every("day", _of_session(asked, "started_at").astype("datetime64[D]")),
        _every("shop", _of_session(asked, "shop")),
    )


def figures(asked: NextItems, ranked: Ranked) -> list[dict[str, Any]]:
    """One mapping a slice: `by`, `slice`, `targets`, and `FIGURES` with their intervals."""
    values = asked.values(ranked)
    columns = np.column_stack([values[name] for name in FIGURES])
    rows: list[dict[str, Any]] = []
    for cut, number in _parts(asked):
        wanted = cut.part == number
        part = columns[wanted]
        row: dict[str, Any] = {"by": cut.by, "slice": cut.names[number], "targets": len(part)}
        intervals = metrics.Draws(asked.targets.session[wanted]).intervals(part)
        for name, mean, (low, high) in zip(FIGURES, part.mean(axis=0), intervals, strict=True):
            row |= {name: float(mean), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows


def popularity(asked: NextItems) -> Cut:
    """By how much was looked at in all: products that make the first, second and last third of it, and new ones."""
    before = np.append(0, np.cumsum(asked.counts)[:-1]) / asked.counts.sum()
    third = np.append(np.minimum((before * 3).astype(int), 2), np.full(len(asked.names) - asked.known, 3))
    names = ("most popular third", "middle third", "rare third", "new")
    return Cut("popularity", names, third[asked.target - 1])


def session_length(asked: NextItems) -> Cut:
    """By how many items of the session come before the target."""
    place = np.searchsorted(list(_LENGTHS.values()), asked.targets.shown, side="right") - 1
    return Cut("session length", tuple(_LENGTHS), place)


def _parts(asked: NextItems) -> Iterator[tuple[Cut, int]]:
    """The parts that hold enough targets, of the cuts that make more than one."""
    for cut in cuts(asked):
        sizes = np.bincount(cut.part, minlength=len(cut.names))
        kept = np.flatnonzero(sizes >= FEWEST)
        yield from ((cut, int(number)) for number in kept if len(kept) > 1)


def _age(asked: NextItems) -> Cut:
    """Products by when they first came."""
    products = asked.fit.strings("product_id")
    late = asked.fit.events["event_time"].to_numpy() >= np.datetime64(asked.manifest.split.validation_from)
    before = pd.Index(asked.names).isin(products[~late])
    age = np.where(before, 0, np.where(np.arange(len(asked.names)) < asked.known, 1, 2))
    return Cut("first seen", ("on the train days", "on the validation days", "on the test days"), age)


def _price(asked: NextItems) -> Cut:
    """Products by the quarter of the known prices that theirs is in."""
    price = asked.products["price"].to_numpy()
    priced = price[np.isfinite(price)]
    edges = np.unique(np.quantile(priced, (0, 0.25, 0.5, 0.75, 1))) if len(priced) else np.zeros(2)
    names = [f"{low:,.4g} to {high:,.4g}" for low, high in itertools.pairwise(edges)] or [f"{edges[0]:,.4g}"]
    part = np.digitize(price, edges[1:-1])
    return Cut("price", (*names, _UNKNOWN), np.where(np.isfinite(price), part, len(names)))


def _category(asked: NextItems) -> np.ndarray:
    """Top category of each product."""
    tops: np.ndarray = asked.products["category"].str.split("/").str[0].replace("", _UNKNOWN).to_numpy()
    return tops


def _most_frequent(by: str, labels: np.ndarray) -> Cut:
    """The labels with most targets; the others together."""
    kept = pd.Series(labels).value_counts().index[:_MOST]
    return _every(by, np.where(np.isin(labels, kept), labels, "others"))


def _every(by: str, labels: np.ndarray) -> Cut:
    names, part = np.unique(labels.astype(str), return_inverse=True)
    return Cut(by, names.tolist(), part)


def _of_session(asked: NextItems, column: str) -> np.ndarray:
    """What the first event of each target's session says."""
    first: np.ndarray = asked.sessions.events[column].to_numpy()[asked.sessions.offsets[asked.targets.session]]
    return first
