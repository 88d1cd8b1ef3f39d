"""How much each part of a blend counts: what validates best, changed one value at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from boat.models.examples import Windows
from boat.recommend.graph import RECOMMENDED
from boat.recommend.scores import Scores, newest, relative

_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_BONUSES = (-0.6, -0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_FIRST_WEIGHT = 0.1
_SWEEPS = 2  # through all values; a third changes next to nothing
_BEST_OF_EACH = 100  # products of each part that can get into a blend's list
_BATCH = 500
_NEVER = -1e9

# The current product, the one before it, the one before that, and then by turns: who goes back and forth between a list
# and its products sees one product at every other place.
_GROUPS = 5


@dataclass(frozen=True)
class Mix:
    """What the parts of a blend are worth.

    Attributes:
        weights: Of each that counts.
        seen: Added for a product in the window by its newest place, float32 [window].
    """

    weights: tuple[float, ...]
    seen: np.ndarray


@dataclass(frozen=True)
class _Candidates:
    """Products that may be listed after each window.

    Attributes:
        values: What each part says, float32 [windows, candidates, parts].
        group: Of the product's newest place in the window, int32 [windows, candidates]; `_GROUPS` where it is not in.
        right: Whether it is the one that came: one of each window. Windows without it tell nothing and are left out.
    """

    values: np.ndarray
    group: np.ndarray
    right: np.ndarray


def choose(directions: Scores, others: Sequence[Scores], validation: Windows, repeats: bool) -> Mix:
    """The mix of the best NDCG@20.

    Args:
        directions: The network.
        others: What counts.
        validation: Examples that none of them has learned from.
        repeats: Whether a product may follow itself.
    """
    parts = [_candidates(directions, others, batch, repeats) for batch in _batches(validation)]
    candidates = _Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    grids = [_WEIGHTS] * len(others) + [_BONUSES if repeats else (0.0,)] + [_BONUSES] * (_GROUPS - 1)
    best = [_FIRST_WEIGHT] * len(others) + [0.0] * _GROUPS
    value = _ndcg(candidates, best)
    for place, grid in list(enumerate(grids)) * _SWEEPS:
        for changed in grid:
            tried = [*best[:place], changed, *best[place + 1 :]]
            if (found := _ndcg(candidates, tried)) > value:
                best, value = tried, found
    weights, bonuses = tuple(best[: len(others)]), np.array(best[len(others) :], np.float32)
    return Mix(weights, bonuses[_group(np.arange(validation.recent.shape[1]))])


def _batches(validation: Windows) -> list[Windows]:
    return [validation.at(slice(at, at + _BATCH)) for at in range(0, len(validation.target), _BATCH)]


def _group(place: np.ndarray) -> np.ndarray:
    return np.where(place < 3, place, 4 - place % 2)


def _candidates(directions: Scores, others: Sequence[Scores], batch: Windows, repeats: bool) -> _Candidates:
    recent, page = tf.constant(batch.recent), None if batch.page is None else tf.constant(batch.page)
    parts = [directions(recent, page), *(relative(other(recent, page)) for other in others)]
    most = min(_BEST_OF_EACH, parts[0].shape[1])
    there = newest(recent).numpy()
    best = [tf.math.top_k(part, most).indices.numpy() + 1 for part in parts]
    codes = np.sort(np.concatenate([*best, np.where(there, batch.recent, 0)], axis=1), axis=1)
    same = np.diff(codes, axis=1, prepend=0) == 0
    current = codes == batch.recent[:, :1]
    values = np.stack([np.take_along_axis(part.numpy(), np.maximum(codes - 1, 0), axis=1) for part in parts], axis=2)
    values[same | (current & (not repeats)), 0] = _NEVER
    row, place = np.nonzero(there)
    group = np.full(codes.shape, _GROUPS)
    group[row, _first_place(codes[row], batch.recent[row, place])] = _group(place)
    right = (codes == batch.target[:, None]) & (values[:, :, 0] > _NEVER)
    told = right.any(axis=1)
    return _Candidates(values[told], group[told], right[told])


def _first_place(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    places: np.ndarray = (rows == wanted[:, None]).argmax(axis=1)
    return places


def _ndcg(candidates: _Candidates, mix: Sequence[float]) -> float:
    """The sum over all windows."""
    weights, bonuses = [1.0, *mix[: len(mix) - _GROUPS]], [*mix[len(mix) - _GROUPS :], 0.0]
    scores = candidates.values @ np.array(weights, np.float32) + np.array(bonuses, np.float32)[candidates.group]
    rank = (scores >= scores[candidates.right][:, None]).sum(axis=1)
    return float(np.where(rank <= RECOMMENDED, 1 / np.log2(1 + rank), 0.0).sum())
