"""Gradient boosting on a table of features, by several members, as trees that a graph can evaluate.

The trees are small, and each member draws the features of its splits at random. The number of rounds is chosen with
members fitted on a random part of the groups (sessions), by their loss on the rest. The final members are fitted on all
rows.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

Output = TypeVar("Output")

_LEARNING_RATE = 0.1
_STEP = 10
"""Rounds between two evaluations of the loss out of the bag."""
_PATIENCE = 2
_BAG = 0.5
"""Share of the groups in a bag. Half of the members predict a row out of the bag: fewer would stop too early."""
_MIN_ROWS_IN_LEAF = 50
_SHRINKAGE = 5.0
_FEATURES_PER_SPLIT = 0.4


@dataclass(frozen=True)
class Forest:
    """Trees whose values add up to log-odds. A leaf is its own left and right node.

    Attributes:
        feature: Column that a node compares, int32 [trees, nodes].
        threshold: Threshold of a node, float64 [trees, nodes]. A row with a value up to it goes left.
        left: Number of the left node, int32 [trees, nodes].
        right: Number of the right node, int32 [trees, nodes].
        value: Log-odds that a leaf adds, float64 [trees, nodes].
        base: Log-odds before the first tree.
        depth: Steps from a root to the lowest leaf of all trees.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    base: float
    depth: int


@dataclass(frozen=True)
class Boosted:
    """Boosted models whose mean is the prediction.

    Attributes:
        members: scikit-learn's models.
        rounds: Trees per member.
        loss: Log-loss out of the bags, in nats. NaN if the number of rounds was an argument.
    """

    members: tuple[HistGradientBoostingClassifier, ...]
    rounds: int
    loss: float

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64 [rows], of features [rows, columns]."""
        with threadpool_limits(1, "openmp"):
            odds: np.ndarray = np.mean([member.decision_function(features) for member in self.members], axis=0)
        return odds

    def forest(self) -> Forest:
        """Extract the trees of all members from private attributes of scikit-learn. A test compares predictions."""
        trees = [tree for member in self.members for (tree,) in member._predictors]
        width = max(len(tree.nodes) for tree in trees)
        leaf = np.stack([_column(tree.nodes, "is_leaf", width, 1) for tree in trees]).astype(bool)
        itself = np.broadcast_to(np.arange(width, dtype=np.int32), leaf.shape)
        column = {
            name: np.stack([_column(tree.nodes, name, width, 0) for tree in trees])
            for name in ("feature_idx", "num_threshold", "left", "right", "value")
        }
        return Forest(
            feature=np.where(leaf, 0, column["feature_idx"]).astype(np.int32),
            threshold=column["num_threshold"].astype(np.float64),
            left=np.where(leaf, itself, column["left"]).astype(np.int32),
            right=np.where(leaf, itself, column["right"]).astype(np.int32),
            value=column["value"].astype(np.float64) / len(self.members),
            base=float(np.mean([member._baseline_prediction for member in self.members])),
            depth=max(int(tree.nodes["depth"].max()) for tree in trees),
        )


def _column(nodes: np.ndarray, name: str, width: int, filling: int) -> np.ndarray:
    return np.pad(nodes[name], (0, width - len(nodes)), constant_values=filling)


def fit(
    features: np.ndarray,
    label: np.ndarray,
    group: np.ndarray,
    *,
    members: int,
    leaves: int,
    most_rounds: int,
    seed: int,
    rounds: int | None = None,
) -> Boosted:
    """Fit the number of rounds with the lowest loss out of the bags, or `rounds`.

    Args:
        features: Features without NaN, float [rows, columns].
        label: Labels, bool [rows].
        group: Group of each row, such as its session, int [rows]. A bag never splits a group.
        members: Number of models that are averaged.
        leaves: Largest number of leaves per tree.
        most_rounds: Largest number of trees per member.
        seed: Seed of the random draws.
        rounds: Number of trees per member. `None`: it is chosen by the loss out of the bags.
    """
    models = tuple(
        HistGradientBoostingClassifier(
            learning_rate=_LEARNING_RATE,
            max_leaf_nodes=leaves,
            min_samples_leaf=_MIN_ROWS_IN_LEAF,
            l2_regularization=_SHRINKAGE,
            max_features=_FEATURES_PER_SPLIT,
            early_stopping=False,
            warm_start=True,
            random_state=seed + number,
        )
        for number in range(members)
    )
    # One thread per member: OpenMP's threads wait for each other at every split, which is far slower on busy cores.
    with threadpool_limits(1, "openmp"):
        if rounds is None:
            rounds, loss = _best_rounds(models, _bags(label, group, members, seed), features, label, most_rounds)
        else:
            loss = float("nan")
        for member in models:
            member.set_params(max_iter=rounds, warm_start=False)
        _in_parallel(lambda member: member.fit(features, label), models)
    return Boosted(models, rounds, loss)


def _bags(label: np.ndarray, group: np.ndarray, members: int, seed: int) -> list[np.ndarray]:
    """Draw the rows of each member, bool [rows] each: the same share of the groups with and without the label."""
    names, first, number = np.unique(group, return_index=True, return_inverse=True)
    draw = np.random.default_rng(seed)
    bags = []
    for _ in range(members):
        rank = np.empty(len(names))
        for value in (False, True):
            groups = np.flatnonzero(label[first] == value)
            rank[groups] = draw.permutation(len(groups)) / max(len(groups), 1)
        bags.append((rank < _BAG)[number])
    return bags


def _in_parallel(function: Callable[..., Output], *arguments: Sequence[Any]) -> list[Output]:
    """Map a function over the arguments in threads. scikit-learn releases the GIL while it fits a tree."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, *arguments))


def _odds_out_of_bag(
    rounds: int, features: np.ndarray, label: np.ndarray, member: HistGradientBoostingClassifier, bag: np.ndarray
) -> np.ndarray:
    """Fit a member on its bag and return its log-odds of the other rows."""
    member.set_params(max_iter=rounds).fit(features[bag], label[bag])
    odds: np.ndarray = member.decision_function(features[~bag])
    return odds


def _best_rounds(
    members: tuple[HistGradientBoostingClassifier, ...],
    bags: list[np.ndarray],
    features: np.ndarray,
    label: np.ndarray,
    most_rounds: int,
) -> tuple[int, float]:
    outside = np.sum([~bag for bag in bags], axis=0)
    is_predicted = outside > 0
    step = min(_STEP, most_rounds)
    best, best_loss = step, float("inf")
    for rounds in range(step, most_rounds + 1, step):
        total = np.zeros(len(label))
        predictions = _in_parallel(partial(_odds_out_of_bag, rounds, features, label), members, bags)
        for odds, bag in zip(predictions, bags, strict=True):
            total[~bag] += odds
        chance = 1 / (1 + np.exp(-total[is_predicted] / outside[is_predicted]))
        loss = float(log_loss(label[is_predicted], chance, labels=[False, True]))
        if loss < best_loss:
            best, best_loss = rounds, loss
        elif rounds >= best + _PATIENCE * step:
            break
    return best, best_loss
