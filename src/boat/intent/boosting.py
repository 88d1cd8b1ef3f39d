"""Gradient boosting on a table of features, by several members, as trees that a graph can walk.

Small trees, and each member's splits choose among other features. When to stop is told by members that saw a draw of
the groups (sessions) each, and judged the others; those that are kept saw all rows, so that nothing is held back.
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

Result = TypeVar("Result")

_LEARNING_RATE = 0.1
_STEP = 10
"""Rounds between two looks at the loss out of the bag."""
_PATIENCE = 2
_BAG = 0.5
"""Of the groups, for choosing the rounds: a row is judged by half the members, as fewer would stop too early."""
_FEWEST_IN_LEAF = 50
_SHRINKAGE = 5.0
_FEATURES_A_SPLIT = 0.4


@dataclass(frozen=True)
class Forest:
    """Trees whose values add up to log-odds; a leaf leads to itself.

    Attributes:
        feature: Column that a node asks for, int32 [trees, nodes].
        threshold: What it is held against, float64 [trees, nodes]: up to it the way goes left.
        left: Number of the node there, int32 [trees, nodes].
        right: The same on the other side.
        value: What a leaf adds, float64 [trees, nodes].
        base: Where the sum starts.
        depth: Steps from a root to its lowest leaf.
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
    """Members that chose among different features; their mean decides.

    Attributes:
        members: scikit-learn's models.
        rounds: Trees in each.
        loss: Log-loss of what is out of the bags, in nats; NaN where the rounds were given.
    """

    members: tuple[HistGradientBoostingClassifier, ...]
    rounds: int
    loss: float

    def log_odds(self, features: np.ndarray) -> np.ndarray:
        """Float64 [rows] for features [rows, columns]."""
        with threadpool_limits(1, "openmp"):
            odds: np.ndarray = np.mean([member.decision_function(features) for member in self.members], axis=0)
        return odds

    def forest(self) -> Forest:
        """The trees of all members, out of what scikit-learn keeps to itself: a test holds both to the same answers."""
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
    """Fit as many rounds as lower the loss out of the bags, or those given.

    Args:
        features: [rows, columns], without NaN.
        label: bool [rows].
        group: int [rows], such as sessions: a draw has all rows of a group or none.
        members: How many models are averaged.
        leaves: Of a tree, at most.
        most_rounds: Trees a member, at most.
        seed: Of the draws.
        rounds: Trees a member, where that is known already.
    """
    grown = tuple(
        HistGradientBoostingClassifier(
            learning_rate=_LEARNING_RATE,
            max_leaf_nodes=leaves,
            min_samples_leaf=_FEWEST_IN_LEAF,
            l2_regularization=_SHRINKAGE,
            max_features=_FEATURES_A_SPLIT,
            early_stopping=False,
            warm_start=True,
            random_state=seed + number,
        )
        for number in range(members)
    )
    # One thread a member: OpenMP's wait for each other at every split, and take many times as long on busy cores.
    with threadpool_limits(1, "openmp"):
        if rounds is None:
            rounds, loss = _best_rounds(grown, _bags(label, group, members, seed), features, label, most_rounds)
        else:
            loss = float("nan")
        for member in grown:
            member.set_params(max_iter=rounds, warm_start=False)
        _side_by_side(lambda member: member.fit(features, label), grown)
    return Boosted(grown, rounds, loss)


def _bags(label: np.ndarray, group: np.ndarray, members: int, seed: int) -> list[np.ndarray]:
    """The rows of each member, bool [rows] each: a share of the groups of either label."""
    names, first, number = np.unique(group, return_index=True, return_inverse=True)
    draw = np.random.default_rng(seed)
    bags = []
    for _ in range(members):
        place = np.empty(len(names))
        for side in (False, True):
            of_side = np.flatnonzero(label[first] == side)
            place[of_side] = draw.permutation(len(of_side)) / max(len(of_side), 1)
        bags.append((place < _BAG)[number])
    return bags


def _side_by_side(work: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """What a function gives for each, in this order; scikit-learn holds no lock while it grows a tree."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(work, *arguments))


def _judge(
    rounds: int, features: np.ndarray, label: np.ndarray, member: HistGradientBoostingClassifier, bag: np.ndarray
) -> np.ndarray:
    """Grow a member in its bag, and say what it thinks of the rows outside."""
    member.set_params(max_iter=rounds).fit(features[bag], label[bag])
    odds: np.ndarray = member.decision_function(features[~bag])
    return odds


def _best_rounds(
    members: tuple[HistGradientBoostingClassifier, ...],
    bags: list[np.ndarray],
    features: np.ndarray,
    label: np.ndarray,
    most: int,
) -> tuple[int, float]:
    outside = np.sum([~bag for bag in bags], axis=0)
    asked = outside > 0
    step = min(_STEP, most)
    best, best_loss = step, float("inf")
    for rounds in range(step, most + 1, step):
        total = np.zeros(len(label))
        for said, bag in zip(_side_by_side(partial(_judge, rounds, features, label), members, bags), bags, strict=True):
            total[~bag] += said
        chance = 1 / (1 + np.exp(-total[asked] / outside[asked]))
        loss = float(log_loss(label[asked], chance, labels=[False, True]))
        if loss < best_loss:
            best, best_loss = rounds, loss
        elif rounds >= best + _PATIENCE * step:
            break
    return best, best_loss
