"""Choose the weights of a blend: the best on validation examples, changed one value at a time."""

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
_SWEEPS = 2  # passes over all values; a third one changes almost nothing
_BEST_OF_EACH = 100  # best products of each part that are candidates
_BATCH = 500
_NEVER = -1e9

# Groups of positions: the current product, the one before, the one before that, then even and odd positions. A shopper
# who goes back and forth between a list and its products has the same product at every other position.
_GROUPS = 5


@dataclass(frozen=True)
class Mix:
    """Weights of a blend.

    Attributes:
        weights: Weight of each of the counts.
        bonuses: Bonus of a product in the window by its newest position, float32 [window].
    """

    weights: tuple[float, ...]
    bonuses: np.ndarray


@dataclass(frozen=True)
class _Candidates:
    """Products that may be listed after each window.

    Attributes:
        values: Score of each part, float32 [windows, candidates, parts].
        group: Group of the product's newest position in the window, int32 [windows, candidates]; `_GROUPS` if absent.
        is_target: Whether it is the target: one per window. Windows without their target are left out.
    """

    values: np.ndarray
    group: np.ndarray
    is_target: np.ndarray


def choose(directions: Scores, counts: Sequence[Scores], validation: Windows, repeats: bool) -> Mix:
    """Return the weights with the best NDCG@20.

    Args:
        directions: Scores of the network.
        counts: Counted scores.
        validation: Examples that no part was trained on.
        repeats: Whether a product may follow itself.
    """
    parts = [_candidates(directions, counts, batch, repeats) for batch in _batches(validation)]
    candidates = _Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))
    grids = [_WEIGHTS] * len(counts) + [_BONUSES if repeats else (0.0,)] + [_BONUSES] * (_GROUPS - 1)
    best = [_FIRST_WEIGHT] * len(counts) + [0.0] * _GROUPS
    value = _ndcg(candidates, best)
    for index, grid in list(enumerate(grids)) * _SWEEPS:
        for changed in grid:
            trial = [*best[:index], changed, *best[index + 1 :]]
            if (trial_value := _ndcg(candidates, trial)) > value:
                best, value = trial, trial_value
    weights, bonuses = tuple(best[: len(counts)]), np.array(best[len(counts) :], np.float32)
    return Mix(weights, bonuses[_group(np.arange(validation.recent.shape[1]))])


def _batches(validation: Windows) -> list[Windows]:
    return [validation.at(slice(at, at + _BATCH)) for at in range(0, len(validation.target), _BATCH)]


def _group(position: np.ndarray) -> np.ndarray:
    return np.where(position < 3, position, 4 - position % 2)


def _candidates(directions: Scores, counts: Sequence[Scores], batch: Windows, repeats: bool) -> _Candidates:
    recent, page = tf.constant(batch.recent), None if batch.page is None else tf.constant(batch.page)
    parts = [directions(recent, page), *(relative(count_scores(recent, page)) for count_scores in counts)]
    size = min(_BEST_OF_EACH, parts[0].shape[1])
    is_newest = newest(recent).numpy()
    best = [tf.math.top_k(part, size).indices.numpy() + 1 for part in parts]
    codes = np.sort(np.concatenate([*best, np.where(is_newest, batch.recent, 0)], axis=1), axis=1)
    same = np.diff(codes, axis=1, prepend=0) == 0
    current = codes == batch.recent[:, :1]
    values = np.stack([np.take_along_axis(part.numpy(), np.maximum(codes - 1, 0), axis=1) for part in parts], axis=2)
    values[same | (current & (not repeats)), 0] = _NEVER
    row, position = np.nonzero(is_newest)
    group = np.full(codes.shape, _GROUPS)
    group[row, _first_position(codes[row], batch.recent[row, position])] = _group(position)
    is_target = (codes == batch.target[:, None]) & (values[:, :, 0] > _NEVER)
    has_target = is_target.any(axis=1)
    return _Candidates(values[has_target], group[has_target], is_target[has_target])


def _first_position(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    positions: np.ndarray = (rows == values[:, None]).argmax(axis=1)
    return positions


def _ndcg(candidates: _Candidates, mix: Sequence[float]) -> float:
    """Return the sum of the NDCG@20 over all windows."""
    weights, bonuses = [1.0, *mix[: len(mix) - _GROUPS]], [*mix[len(mix) - _GROUPS :], 0.0]
    scores = candidates.values @ np.array(weights, np.float32) + np.array(bonuses, np.float32)[candidates.group]
    rank = (scores >= scores[candidates.is_target][:, None]).sum(axis=1)
    return float(np.where(rank <= RECOMMENDED, 1 / np.log2(1 + rank), 0.0).sum())
