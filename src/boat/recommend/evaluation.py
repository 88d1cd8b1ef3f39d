"""Next items: nothing of a session is left out, every item after its first is asked for, given those before it.

A target that no model knows is a miss, and ties count against a model. The rest of the session after a start of it,
each product once, is what recall asks for. Intervals are of 95 %, by drawing whole sessions anew: what one shopper
does is no independent evidence twice.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from boat import metrics, snapshot
from boat.errors import DataError
from boat.evaluation import asking
from boat.models import examples
from boat.models.examples import Sessions, Windows
from boat.models.served import SavedModel
from boat.recommend import baselines, products
from boat.recommend.baselines import Ranked
from boat.snapshot import Manifest

MAX_TARGETS = 200_000
"""More would take longer and tell the same."""
KS = (5, 10, 20)

Figures = dict[str, Any]


@dataclass(frozen=True)
class Targets:
    """What is asked for.

    Attributes:
        session: Number of the session, int64 [targets].
        shown: How many items of it come before the target, int64 [targets].
        every: How many targets there are, chosen or not.
    """

    session: np.ndarray
    shown: np.ndarray
    every: int

    def __len__(self) -> int:
        return len(self.session)


class NextItems:
    """The test days of a snapshot, as questions for next items.

    Products have codes: those of the days before run from 1, most frequent first; those follow that first came on the
    test days, or are in the catalogue alone.

    Args:
        folder: The snapshot.
        manifest: Its manifest.
        most: Beyond so many targets, a fixed draw of them is asked for.

    Raises:
        DataError: Nothing to predict on the test days.
    """

    def __init__(self, folder: Path, manifest: Manifest, most: int = MAX_TARGETS) -> None:
        path = folder / snapshot.RECOMMEND
        self.folder, self.manifest = folder, manifest
        self.fit = examples.read(path, manifest.split, "fit")
        self.sessions = examples.read(path, manifest.split, "test")
        known, self.counts = examples.vocabulary(self.fit.strings("product_id"))
        asked_products = self.sessions.strings("product_id")
        self.known = len(known)
        catalogue = products.read(folder)
        others = pd.Index([*asked_products, *catalogue.index]).unique().difference(pd.Index(known), sort=True)
        self.names = np.append(known, others.to_numpy().astype(object))
        listed = catalogue.reindex(self.names)
        self.products = listed.assign(category=listed["category"].fillna(""), described=listed["described"].eq(True))
        self._ask_for(most)

    def _ask_for(self, most: int) -> None:
        self.codes = examples.encode(self.sessions.strings("product_id"), self.names)
        self.targets = _targets(self.sessions, most)
        self.target = self.codes[self.sessions.offsets[self.targets.session] + self.targets.shown]

    def on_validation_days(self, most: int) -> "NextItems":
        """The same of the days before: what the exported model has learned from last."""
        other = copy.copy(self)
        vars(other).pop("draws", None)
        other.sessions = examples.read(self.folder / snapshot.RECOMMEND, self.manifest.split, "validation")
        other._ask_for(most)
        return other

    @cached_property
    def draws(self) -> metrics.Draws:
        """Of the sessions behind the targets."""
        return metrics.Draws(self.targets.session)

    @cached_property
    def learned(self) -> Windows:
        """The examples of the days before."""
        codes = examples.encode(self.fit.strings("product_id"), self.names[: self.known])
        return examples.windows(codes, self.fit.offsets, asking.LOOKED_AT)

    def ask(self, model: SavedModel) -> Ranked:
        """The lists of an exported model; a product that the shop does not have is -1: listed, but never right."""
        lists, scores = [], []
        for batch in asking.batches(model, self.sessions, self.targets.session, self.targets.shown):
            codes = examples.encode(batch["product_id"].ravel(), self.names).astype(np.int64)
            lists.append(np.where(codes == 0, -1, codes).reshape(batch["product_id"].shape))
            scores.append(batch["score"])
        return Ranked(np.concatenate(lists), np.concatenate(scores))

    def baselines(self) -> dict[str, Ranked]:
        """The lists of simple models that learned from all days before."""
        learned, recent = self.learned, self._recent()
        return {
            "popular": baselines.Popular(learned, self.known).recommend(recent),
            "co_occurrence": baselines.CoOccurrence(learned, self.known).recommend(recent),
        }

    def values(self, ranked: Ranked) -> dict[str, np.ndarray]:
        """What each target adds to each mean figure; float64 [targets] by the figure's name."""
        rank = metrics.ranks(ranked.scores, ranked.products, self.target)
        found, wanted = self._rest(ranked.products)
        return {
            **{f"hr_at_{k}": (rank <= k).astype(np.float64) for k in KS},
            **{f"mrr_at_{k}": metrics.reciprocal_ranks(rank, k) for k in KS},
            **{f"ndcg_at_{k}": metrics.gains(rank, k) for k in KS},
            **{f"recall_at_{k}": found[:, :k].sum(axis=1) / wanted for k in KS},
        }

    def figures(self, ranked: Ranked) -> Figures:
        """All figures of one model."""
        values = self.values(ranked)
        intervals = self.draws.intervals(np.column_stack(list(values.values())))
        listed = ranked.products[(ranked.products > 0) & (ranked.products <= self.known)]
        figures: Figures = {
            "targets": len(self.targets),
            "all_targets": self.targets.every,
            "unknown_targets": int(np.sum(self.target > self.known)),
        }
        for (name, each), (low, high) in zip(values.items(), intervals, strict=True):
            figures |= {name: float(np.mean(each)), f"{name}_low": low, f"{name}_high": high}
        return {
            **figures,
            "coverage_at_20": metrics.coverage(listed, self.known),
            "popularity_bias": self._popularity_bias(listed),
        }

    def difference(self, ranked: Ranked, other: Ranked) -> dict[str, tuple[float, float, float]]:
        """By how much the first model's figures are above the other's on the same targets, and its interval."""
        mine, others = self.values(ranked), self.values(other)
        gaps = {name: mine[name] - others[name] for name in mine}
        intervals = self.draws.intervals(np.column_stack(list(gaps.values())))
        return {
            name: (float(np.mean(gap)), low, high)
            for (name, gap), (low, high) in zip(gaps.items(), intervals, strict=True)
        }

    def _popularity_bias(self, listed: np.ndarray) -> float:
        """Mean popularity percentile of what is listed less that of what was wanted; above 0, favourites are pushed."""
        wanted = self.target[self.target <= self.known]
        percentile = np.append(0.0, 1 - np.arange(self.known) / self.known)
        if not len(listed) or not len(wanted):
            return 0.0
        return float(np.mean(percentile[listed]) - np.mean(percentile[wanted]))

    def _recent(self) -> np.ndarray:
        """Windows of known products before the targets, newest first [targets, window]."""
        known = np.where(self.codes <= self.known, self.codes, 0)
        windows = examples.windows(known, self.sessions.offsets, asking.LOOKED_AT).recent
        first = np.append(0, np.cumsum(np.maximum(self.sessions.lengths - 1, 0)))
        chosen: np.ndarray = windows[first[self.targets.session] + self.targets.shown - 1]
        return chosen

    def _rest(self, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which listed products come later in the session [targets, listed], and how many are still to come [targets].

        A product that is listed twice is found once.
        """
        size, longest = len(self.names) + 1, int(self.sessions.lengths.max()) + 1
        session = np.repeat(np.arange(len(self.sessions)), self.sessions.lengths)
        place = np.arange(len(self.codes)) - self.sessions.offsets[session]
        keys, last = _last(session * size + self.codes, place)
        lasts = np.sort(keys // size * longest + last)
        asked, shown = self.targets.session, self.targets.shown
        ends = np.searchsorted(lasts, (asked + 1) * longest)
        wanted = ends - np.searchsorted(lasts, asked * longest + shown)
        listed = asked[:, None] * size + np.maximum(products, 0)
        at = np.minimum(np.searchsorted(keys, listed), len(keys) - 1)
        comes = (keys[at] == listed) & (products > 0) & (last[at] >= shown[:, None])
        return comes & _first_time(products), wanted


def _targets(part: Sessions, most: int) -> Targets:
    lengths = part.lengths
    session = np.repeat(np.arange(len(part)), np.maximum(lengths - 1, 0))
    if not len(session):
        raise DataError("There is no item to predict on the days asked for.", "Take a snapshot of more days.")
    shown = np.arange(len(session)) - np.searchsorted(session, session) + 1
    every = len(session)
    if every > most:
        chosen = np.sort(np.random.default_rng(0).choice(every, most, replace=False))
        session, shown = session[chosen], shown[chosen]
    return Targets(session, shown, every)


def _last(keys: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys, ascending, and the last place of each."""
    order = np.lexsort((place, keys))
    ends = np.append(np.flatnonzero(np.diff(keys[order])), len(order) - 1)
    return keys[order][ends], place[order][ends]


def _first_time(products: np.ndarray) -> np.ndarray:
    """Whether a product is at no earlier place of its list; booleans [lists, listed]."""
    columns = [np.all(products[:, :place] != products[:, [place]], axis=1) for place in range(products.shape[1])]
    return np.column_stack(columns)
