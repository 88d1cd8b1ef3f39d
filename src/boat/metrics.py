"""Metrics in plain numpy: ranks of recommended products, and probabilities of a purchase."""

import numpy as np

CALIBRATION_BINS = 10
_RESAMPLES = 500


def ranks(scores: np.ndarray, candidates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the rank of each target in its recommended list; ties count against the model.

    Args:
        scores: [targets, listed], score of each candidate.
        candidates: [targets, listed], candidates.
        targets: [targets], the targets.

    Returns:
        float64 [targets]: 1 is the best; infinite if the target is not listed or its score is not a number. Among equal
        scores, the target has the last rank.
    """
    hit = (candidates == targets[:, None]) & ~np.isnan(scores)
    score = np.where(hit, scores, -np.inf).max(axis=1, initial=-np.inf)
    rank = (scores >= score[:, None]).sum(axis=1)
    return np.where(hit.any(axis=1), rank, np.inf)


def hit_rate(rank: np.ndarray, k: int) -> float:
    """Return the share of targets among the first `k`."""
    return float(np.mean(rank <= k))


def reciprocal_ranks(rank: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / rank, float64 [targets]; 0 beyond rank `k`. The mean is the MRR@k."""
    return np.where(rank <= k, 1 / rank, 0.0)


def gains(rank: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / log2(rank + 1), float64 [targets]; 0 beyond rank `k`. The mean is the NDCG@k for one target each."""
    return np.where(rank <= k, 1 / np.log2(rank + 1), 0.0)


def coverage(recommended: np.ndarray, products: int) -> float:
    """Return the share of the `products` that are recommended at least once."""
    return float(len(np.unique(recommended)) / products) if products else 0.0


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of `values`."""
    generator = np.random.default_rng(seed)
    means = [float(np.mean(generator.choice(values, len(values)))) for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


class Draws:
    """Bootstrap of means over grouped values, such as the targets of a session. Whole groups are drawn.

    The same seed draws the same groups, so that two models are compared on the same draws.

    Args:
        group: [values], group of each value.
        seed: Random seed.
    """

    def __init__(self, group: np.ndarray, seed: int = 0) -> None:
        self._group = np.unique(group, return_inverse=True)[1]
        self._sizes = np.bincount(self._group).astype(np.float64)
        self._seed = seed

    def intervals(self, values: np.ndarray) -> list[tuple[float, float]]:
        """Return the 95 % interval of the mean of each column of `values`, [values, metrics]."""
        groups = len(self._sizes)
        sums = np.column_stack([np.bincount(self._group, column, groups) for column in values.T])
        generator = np.random.default_rng(self._seed)
        means = []
        for _ in range(_RESAMPLES):
            drawn = np.bincount(generator.integers(groups, size=groups), minlength=groups)
            means.append((drawn @ sums) / (drawn @ self._sizes))
        low, high = np.quantile(means, [0.025, 0.975], axis=0)
        return [(float(lower), float(upper)) for lower, upper in zip(low, high, strict=True)]


def pr_auc(label: np.ndarray, probability: np.ndarray) -> float:
    """Compute average precision, with ties as one step. Return NaN without positives."""
    positives, predicted = _curve(label, probability)
    if positives[-1] == 0:
        return float("nan")
    gained = np.diff(positives, prepend=0)
    return float(np.sum(gained * positives / predicted) / positives[-1])


def pr_auc_interval(
    label: np.ndarray, probability: np.ndarray, group: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the PR-AUC over whole groups, such as the starts of a session."""
    areas = pr_auc_draws(label, probability, group, seed)
    low, high = np.quantile(areas if len(areas) else [np.nan], [0.025, 0.975])
    return float(low), float(high)


def pr_auc_draws(label: np.ndarray, probability: np.ndarray, group: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the PR-AUC of draws of whole groups, float64 [draws], without draws that have no positive.

    The same seed draws the same groups, so that two models are compared on the same draws.
    """
    order, last_of_score = _by_score(probability)
    number = np.unique(group, return_inverse=True)[1]
    groups = int(number.max()) + 1
    number, positive = number[order], label[order].astype(np.float64)
    generator = np.random.default_rng(seed)
    areas = []
    for _ in range(_RESAMPLES):
        weight = np.bincount(generator.integers(groups, size=groups), minlength=groups)[number]
        positives, predicted = (np.cumsum(values)[last_of_score] for values in (weight * positive, weight))
        if positives[-1]:
            areas.append(np.sum(np.diff(positives, prepend=0) * positives / np.maximum(predicted, 1)) / positives[-1])
    return np.array(areas)


def pr_auc_difference(
    label: np.ndarray, ours: np.ndarray, theirs: np.ndarray, group: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Return the PR-AUC of one model less that of another, and its 95 % interval on the same draws of groups."""
    draws = pr_auc_draws(label, ours, group, seed) - pr_auc_draws(label, theirs, group, seed)
    low, high = np.quantile(draws if len(draws) else [np.nan], [0.025, 0.975])
    return pr_auc(label, ours) - pr_auc(label, theirs), float(low), float(high)


def lift(label: np.ndarray, probability: np.ndarray, share: float) -> float:
    """Return the rate of positives in the top `share` divided by the overall rate; ties count by their mean."""
    positives, predicted = _curve(label, probability)
    if positives[-1] == 0:
        return float("nan")
    positives_in_share = np.interp(share * len(label), np.append(0, predicted), np.append(0, positives))
    return float(positives_in_share / positives[-1] / share)


def roc_auc(label: np.ndarray, probability: np.ndarray) -> float:
    """Return the probability that a positive scores above a negative; ties count half. NaN with one class only."""
    positives, predicted = _curve(label, probability)
    negatives = predicted - positives
    if positives[-1] == 0 or negatives[-1] == 0:
        return float("nan")
    area = np.trapezoid(np.append(0, positives), np.append(0, negatives))
    return float(area / positives[-1] / negatives[-1])


def log_loss(label: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean negative log-likelihood, in nats."""
    sure = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(label, np.log(sure), np.log1p(-sure))))


def brier(label: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean squared difference of probability and outcome."""
    return float(np.mean((probability - label) ** 2))


def calibration(label: np.ndarray, probability: np.ndarray, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Return predicted and actual rates in bins of equal size, lowest first.

    Equal probabilities stay in one bin, so there may be fewer bins.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    number = np.digitize(probability, edges)
    return [
        {
            "count": int(np.sum(number == bin_number)),
            "predicted": float(np.mean(probability[number == bin_number])),
            "actual": float(np.mean(label[number == bin_number])),
        }
        for bin_number in np.unique(number)
    ]


def expected_calibration_error(table: list[dict[str, float]]) -> float:
    """Return the mean distance of predicted and actual rate over the rows of a calibration table, weighted by count."""
    total = sum(row["count"] for row in table)
    return float(sum(row["count"] * abs(row["predicted"] - row["actual"]) for row in table) / total)


def _curve(label: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cumulative positives and cumulative counts from the highest score, at each distinct score."""
    order, last_of_score = _by_score(probability)
    return np.cumsum(label[order].astype(np.int64))[last_of_score], last_of_score + 1


def _by_score(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows from the highest score, and the last index of each distinct score."""
    order = np.argsort(-probability, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
