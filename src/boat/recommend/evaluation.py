"""The test set of recommenders: every item of a test session after its first, given the items before it.

A target without a known product is a miss, and ties count against the model. Recall counts the products of the rest of
the session, each once. Intervals are 95 % bootstrap intervals over sessions, because the targets of a session depend on
each other.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from boat import metrics, snapshot
from boat.errors import DataError
from boat.evaluation import asking
from boat.evaluation.report import Difference
from boat.models import examples
from boat.models.examples import Examples, Sessions
from boat.models.served import SavedModel
from boat.recommend import baselines, products
from boat.recommend.baselines import Ranked
from boat.snapshot import Manifest

MAX_TARGETS = 100_000
"""More targets take longer and hardly narrow the intervals."""
KS = (5, 10, 20)


@dataclass(frozen=True)
class Targets:
    """The items to predict.

    Attributes:
        session: Number of the session, int64 [targets].
        length: How many items of the session come before the target, int64 [targets].
        total: Number of targets before sampling.
    """

    session: np.ndarray
    length: np.ndarray
    total: int

    def __len__(self) -> int:
        return len(self.session)


class RecommendTestSet:
    """The test days of a snapshot.

    Products have codes from 1. Products of the days before the test come first, most frequent first. Products that are
    new on the test days or only in the catalogue follow.

    Args:
        folder: The snapshot.
        manifest: Its manifest.
        limit: Largest number of targets. A fixed sample is drawn from more.

    Attributes:
        fit: Sessions of the days before the test.
        sessions: Sessions of the test days.
        vocabulary: Number of products of the days before the test.
        counts: How often each of these was viewed, int64 [vocabulary].
        names: Product ids in the order of their codes, object [products].
        products: Catalogue rows in the same order.
        codes: Code of each event of `sessions`, int32 [events].
        targets: The items to predict.
        target: Their codes, int32 [targets].

    Raises:
        DataError: The test days have no targets.
    """

    def __init__(self, folder: Path, manifest: Manifest, limit: int = MAX_TARGETS) -> None:
        path = folder / snapshot.RECOMMEND
        self.folder, self.manifest = folder, manifest
        self.fit, self.sessions = examples.read_parts(path, manifest.split, ["fit", "test"])
        names, self.counts = self.fit.vocabulary("product_id")
        self.vocabulary = len(names)
        catalogue = products.read(folder)
        candidates = pd.Index([*self.sessions.strings("product_id"), *catalogue.index]).unique()
        new_names = candidates.difference(pd.Index(names), sort=True)
        self.names = np.append(names, new_names.to_numpy().astype(object))
        rows = catalogue.reindex(self.names)
        self.products = rows.assign(category=rows["category"].fillna(""), described=rows["described"].eq(True))
        self._set_targets(limit)

    def _set_targets(self, limit: int) -> None:
        self.codes = self.sessions.codes("product_id", self.names)
        self.targets = choose_targets(self.sessions, limit)
        self.target = self.codes[self.sessions.offsets[self.targets.session] + self.targets.length]

    def on_validation_days(self, limit: int) -> "RecommendTestSet":
        """Return the same test on the validation days, which the exported model has learned from."""
        validation = copy.copy(self)
        vars(validation).pop("draws", None)
        validation.sessions = examples.read(self.folder / snapshot.RECOMMEND, self.manifest.split, "validation")
        validation._set_targets(limit)
        return validation

    @cached_property
    def draws(self) -> metrics.Draws:
        """Return the bootstrap draws of the targets' sessions."""
        return metrics.Draws(self.targets.session)

    @cached_property
    def learned(self) -> Examples:
        """Return the training examples of the days before the test."""
        codes = self.fit.codes("product_id", self.names[: self.vocabulary])
        return Examples(codes, self.fit.offsets)

    def predict(self, model: SavedModel) -> Ranked:
        """Return the lists of an exported model; see `rank`."""
        return self.rank(model.score, model.manifest.model)

    def rank(self, score: asking.Score, name: str) -> Ranked:
        """Return the lists of a model. The code of a product outside the shop is -1: it is never right.

        Args:
            score: The model.
            name: Its name, for the progress.
        """
        lists, scores = [], []
        for batch in asking.batches(score, name, self.sessions, self.targets.session, self.targets.length):
            codes = examples.encode(batch["product_id"].ravel(), self.names).astype(np.int64)
            lists.append(np.where(codes == 0, -1, codes).reshape(batch["product_id"].shape))
            scores.append(batch["score"])
        return Ranked(np.concatenate(lists), np.concatenate(scores))

    def baselines(self) -> dict[str, Ranked]:
        """Return the lists of simple models that learn from all days before the test."""
        learned, recent = self.learned, self._recent()
        return {
            "popular": baselines.Popular(learned, self.vocabulary).recommend(recent),
            "co_occurrence": baselines.CoOccurrence(learned, self.vocabulary).recommend(recent),
        }

    def values(self, ranked: Ranked) -> dict[str, np.ndarray]:
        """Return the value of each target by metric, float64 [targets]. Their mean is the metric."""
        rank = metrics.ranks(ranked.scores, ranked.products, self.target)
        hits, rest = self._rest(ranked.products)
        return {
            **{f"hr_at_{k}": (rank <= k).astype(np.float64) for k in KS},
            **{f"mrr_at_{k}": metrics.reciprocal_ranks(rank, k) for k in KS},
            **{f"ndcg_at_{k}": metrics.gains(rank, k) for k in KS},
            **{f"recall_at_{k}": hits[:, :k].sum(axis=1) / rest for k in KS},
        }

    def score(self, ranked: Ranked) -> dict[str, float]:
        """Return all metrics of a model, with intervals."""
        values = self.values(ranked)
        intervals = self.draws.intervals(np.column_stack(list(values.values())))
        listed = ranked.products[(ranked.products > 0) & (ranked.products <= self.vocabulary)]
        means: dict[str, float] = {
            "targets": len(self.targets),
            "all_targets": self.targets.total,
            "unknown_targets": int(np.sum(self.target > self.vocabulary)),
        }
        for (name, column), (low, high) in zip(values.items(), intervals, strict=True):
            means |= {name: float(np.mean(column)), f"{name}_low": low, f"{name}_high": high}
        return {
            **means,
            "coverage_at_20": metrics.coverage(listed, self.vocabulary),
            "popularity_bias": self._popularity_bias(listed),
        }

    def difference(self, challenger: Ranked, champion: Ranked) -> dict[str, Difference]:
        """Return the difference of the two models' metrics on the same targets."""
        ours, theirs = self.values(challenger), self.values(champion)
        gaps = {name: ours[name] - theirs[name] for name in ours}
        intervals = self.draws.intervals(np.column_stack(list(gaps.values())))
        return {
            name: Difference(float(np.mean(gap)), low, high)
            for (name, gap), (low, high) in zip(gaps.items(), intervals, strict=True)
        }

    def _popularity_bias(self, listed: np.ndarray) -> float:
        """Return the mean popularity percentile of listed products less that of targets. Above 0, favourites lead."""
        viewed = self.target[self.target <= self.vocabulary]
        percentile = np.append(0.0, 1 - np.arange(self.vocabulary) / self.vocabulary)
        if not len(listed) or not len(viewed):
            return 0.0
        return float(np.mean(percentile[listed]) - np.mean(percentile[viewed]))

    def _recent(self) -> np.ndarray:
        """Return windows of known products before the targets, newest first [targets, window]."""
        codes = np.where(self.codes <= self.vocabulary, self.codes, 0)
        first = np.append(0, np.cumsum(np.maximum(self.sessions.lengths - 1, 0)))
        rows = first[self.targets.session] + self.targets.length - 1
        return Examples(codes, self.sessions.offsets).at(rows, asking.MAX_EVENTS).recent

    def _rest(self, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compare lists with the rest of their session.

        Returns:
            Whether each listed product comes later in the session [targets, listed]; only the first copy of a product
            counts. And the number of distinct products still to come [targets].
        """
        size, longest = len(self.names) + 1, int(self.sessions.lengths.max()) + 1
        session = np.repeat(np.arange(len(self.sessions)), self.sessions.lengths)
        position = np.arange(len(self.codes)) - self.sessions.offsets[session]
        keys, last = _last(session * size + self.codes, position)
        lasts = np.sort(keys // size * longest + last)
        target_session, length = self.targets.session, self.targets.length
        ends = np.searchsorted(lasts, (target_session + 1) * longest)
        rest = ends - np.searchsorted(lasts, target_session * longest + length)
        listed = target_session[:, None] * size + np.maximum(products, 0)
        at = np.minimum(np.searchsorted(keys, listed), len(keys) - 1)
        comes = (keys[at] == listed) & (products > 0) & (last[at] >= length[:, None])
        return comes & _first_time(products), rest


def choose_targets(part: Sessions, limit: int) -> Targets:
    """Return all targets of sessions, or a fixed sample of `limit` targets.

    Raises:
        DataError: There are no targets.
    """
    session = np.repeat(np.arange(len(part)), np.maximum(part.lengths - 1, 0))
    if not len(session):
        raise DataError(
            "Cannot evaluate recommendations: no test session has two items.",
            "Increase `days` of `retrain`, or load events of more days.",
        )
    length = np.arange(len(session)) - np.searchsorted(session, session) + 1
    total = len(session)
    if total > limit:
        chosen = np.sort(np.random.default_rng(0).choice(total, limit, replace=False))
        session, length = session[chosen], length[chosen]
    return Targets(session, length, total)


def _last(keys: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct keys, ascending, and the last position of each."""
    order = np.lexsort((position, keys))
    ends = np.append(np.flatnonzero(np.diff(keys[order])), len(order) - 1)
    return keys[order][ends], position[order][ends]


def _first_time(products: np.ndarray) -> np.ndarray:
    """Return whether a product is at no earlier position of its list, bool [lists, listed]."""
    columns = [
        np.all(products[:, :position] != products[:, [position]], axis=1) for position in range(products.shape[1])
    ]
    return np.column_stack(columns)
