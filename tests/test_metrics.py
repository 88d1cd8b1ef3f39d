"""Metrics agree with numbers calculated by hand and with scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from boat import metrics


def test_ranks_are_positions_in_the_list_and_ties_count_against_the_model() -> None:
    candidates = np.array([[7, 8, 9], [7, 8, 9], [7, 8, 9], [7, 8, 9]])
    scores = np.array([[3.0, 2, 1], [3, 2, 1], [2, 2, 1], [1, 1, 1]])
    rank = metrics.ranks(scores, candidates, np.array([7, 5, 7, 7]))
    assert rank.tolist() == [1, math.inf, 2, 3]


def test_hit_rate_and_reciprocal_rank_by_hand() -> None:
    rank = np.array([1, 2, 20, 21, np.inf])
    assert metrics.hit_rate(rank, 20) == pytest.approx(3 / 5)
    assert metrics.hit_rate(rank, 1) == pytest.approx(1 / 5)
    assert metrics.reciprocal_ranks(rank, 20).tolist() == [1, 0.5, 0.05, 0, 0]


def test_coverage_counts_each_product_once() -> None:
    assert metrics.coverage(np.array([[1, 2], [2, 3]]), 6) == 0.5


def test_the_interval_contains_the_mean_and_narrows_with_more_values() -> None:
    values = np.random.default_rng(1).random(4000)
    low, high = metrics.interval(values)
    few_low, few_high = metrics.interval(values[:100])
    assert low < values.mean() < high
    # The textbook interval of a mean: 1.96 standard errors to each side.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.15)
    assert few_high - few_low > 4 * (high - low)
    assert metrics.interval(np.ones(10)) == (1, 1)


@pytest.fixture(params=["distinct", "tied", "rare"])
def answers(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(2)
    probability = draw.random(3000)
    if request.param == "tied":
        probability = np.round(probability, 1)
    if request.param == "rare":
        probability = probability * 0.03
    return draw.random(3000) < probability, probability


def test_metrics_of_probabilities_agree_with_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    label, probability = answers
    assert metrics.pr_auc(label, probability) == pytest.approx(
        sklearn_metrics.average_precision_score(label, probability)
    )
    assert metrics.roc_auc(label, probability) == pytest.approx(sklearn_metrics.roc_auc_score(label, probability))
    assert metrics.brier(label, probability) == pytest.approx(sklearn_metrics.brier_score_loss(label, probability))
    sure = np.clip(probability, 1e-7, 1 - 1e-7)
    assert metrics.log_loss(label, probability) == pytest.approx(sklearn_metrics.log_loss(label, sure))


def test_a_true_probability_is_calibrated_and_a_doubled_one_is_not(answers: tuple[np.ndarray, np.ndarray]) -> None:
    label, probability = answers
    true_table, doubled_table = (metrics.calibration(label, chances) for chances in (probability, probability * 2))
    assert sum(row["count"] for row in true_table) == 3000
    assert metrics.expected_calibration_error(true_table) < 0.03
    assert metrics.expected_calibration_error(doubled_table) == pytest.approx(
        abs(2 * probability.mean() - label.mean()), rel=0.2
    )


def test_calibration_by_hand() -> None:
    label, probability = np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9])
    table = metrics.calibration(label, probability, bins=2)
    assert table == [
        {"count": 2, "predicted": pytest.approx(0.2), "actual": 0.5},
        {"count": 2, "predicted": pytest.approx(0.9), "actual": 1.0},
    ]
    assert metrics.expected_calibration_error(table) == pytest.approx(0.5 * 0.3 + 0.5 * 0.1)


def test_the_interval_of_the_pr_auc_contains_it_and_resamples_whole_groups(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    label, probability = answers
    low, high = metrics.pr_auc_interval(label, probability, np.arange(3000))
    assert low < metrics.pr_auc(label, probability) < high
    # Ten copies of each row add no information.
    group, ten = np.tile(np.arange(3000), 10), (np.tile(values, 10) for values in answers)
    assert metrics.pr_auc_interval(*ten, group) == pytest.approx((low, high), abs=1e-9)  # type: ignore[misc]


def test_resampled_pr_auc_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    label, probability = (values[:200] for values in answers)
    draws = metrics.pr_auc_draws(label, probability, np.arange(200), seed=5)
    drawn = np.random.default_rng(5).integers(200, size=200)
    assert draws[0] == pytest.approx(sklearn_metrics.average_precision_score(label[drawn], probability[drawn]))


def test_lift_by_hand() -> None:
    label = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    probability = np.linspace(1, 0, 10)
    assert metrics.lift(label, probability, 0.1) == pytest.approx(5)
    assert metrics.lift(label, probability, 0.3) == pytest.approx(1 / 0.3)
    assert metrics.lift(label, np.full(10, 0.2), 0.1) == pytest.approx(1)
    assert math.isnan(metrics.lift(np.zeros(3), np.ones(3), 0.1))


def test_the_areas_need_both_classes() -> None:
    assert math.isnan(metrics.pr_auc(np.zeros(3, bool), np.array([0.1, 0.2, 0.3])))
    assert math.isnan(metrics.roc_auc(np.ones(3, bool), np.array([0.1, 0.2, 0.3])))
    assert math.isfinite(metrics.log_loss(np.array([True, False]), np.array([0.0, 1.0])))
