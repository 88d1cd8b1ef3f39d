"""Next items are asked for as said, and the figures agree with scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as known

from boat import snapshot
from boat.evaluation import metrics
from boat.evaluation.baselines import Ranked
from boat.evaluation.next_items import KS, NextItems

PRODUCTS = 30


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores of all products [targets, products], and the product that came."""
    draw = np.random.default_rng(4)
    return draw.permuted(np.tile(np.arange(PRODUCTS) / PRODUCTS, (400, 1)), axis=1), draw.integers(0, PRODUCTS, 400)


@pytest.fixture(scope="module")
def rank(scored: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    scores, target = scored
    order = np.argsort(-scores, axis=1)
    return metrics.ranks(np.take_along_axis(scores, order, axis=1), order, target)


@pytest.fixture(scope="module")
def asked(shop: Path) -> NextItems:
    return NextItems(shop, snapshot.read(shop))


@pytest.mark.parametrize("k", KS)
def test_hit_rate_is_scikit_learns_top_k_accuracy(
    scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray, k: int
) -> None:
    scores, target = scored
    expected = known.top_k_accuracy_score(target, scores, k=k, labels=np.arange(PRODUCTS))
    assert metrics.hit_rate(rank, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", KS)
def test_gains_are_scikit_learns_ndcg(scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray, k: int) -> None:
    scores, target = scored
    wanted = np.arange(PRODUCTS) == target[:, None]
    assert metrics.gains(rank, k).mean() == pytest.approx(known.ndcg_score(wanted, scores, k=k))


def test_reciprocal_ranks_are_scikit_learns_precision_of_the_ranking(
    scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray
) -> None:
    scores, target = scored
    expected = known.label_ranking_average_precision_score(np.arange(PRODUCTS) == target[:, None], scores)
    assert metrics.reciprocal_ranks(rank, PRODUCTS).mean() == pytest.approx(expected)


@pytest.mark.parametrize("k", KS)
def test_recall_of_the_rest_of_the_session_is_scikit_learns(asked: NextItems, k: int) -> None:
    draw = np.random.default_rng(5)
    lists = draw.permuted(np.tile(np.arange(1, asked.known + 1), (len(asked.target), 1)), axis=1)[:, :20]
    scores = np.tile(np.linspace(1, 0, 20), (len(lists), 1))
    rest, listed = (np.zeros((len(lists), len(asked.names) + 1), bool) for _ in range(2))
    for row, (session, shown) in enumerate(zip(asked.targets.session, asked.targets.shown, strict=True)):
        begin, end = asked.test.offsets[session : session + 2]
        rest[row, asked.codes[begin + shown : end]] = True
        listed[row, lists[row, :k]] = True
    expected = known.recall_score(rest, listed, average="samples")
    assert asked.values(Ranked(lists, scores))[f"recall_at_{k}"].mean() == pytest.approx(expected)


def test_a_product_that_is_listed_twice_is_found_once(asked: NextItems) -> None:
    lists = np.repeat(asked.target[:, None], 20, axis=1)
    recall = asked.values(Ranked(lists, np.ones(lists.shape)))["recall_at_20"]
    assert recall.max() == 1
    assert recall.min() > 0


def test_a_score_that_is_no_number_is_a_miss() -> None:
    rank = metrics.ranks(np.array([[np.nan, np.nan], [2, np.nan]]), np.array([[7, 8], [7, 8]]), np.array([7, 7]))
    assert rank.tolist() == [np.inf, 1]


def test_the_interval_of_grouped_values_is_as_wide_as_that_of_the_groups_alone() -> None:
    draw = np.random.default_rng(6)
    once = draw.random(400)
    ((low, high),) = metrics.Draws(np.arange(400)).intervals(once[:, None])
    # The same value ten times over says nothing new.
    ((low_of_ten, high_of_ten),) = metrics.Draws(np.repeat(np.arange(400), 10)).intervals(np.repeat(once, 10)[:, None])
    assert (low_of_ten, high_of_ten) == pytest.approx((low, high))
    assert high - low == pytest.approx(2 * 1.96 * once.std() / np.sqrt(400), rel=0.2)
    assert low < once.mean() < high


def test_a_model_is_no_better_than_itself_and_better_than_one_that_is_wrong(asked: NextItems) -> None:
    scores = np.ones((len(asked.target), 1))
    right, wrong = (Ranked(products[:, None], scores) for products in (asked.target, np.full_like(asked.target, -1)))
    assert asked.difference(right, right)["mrr_at_20"] == (0, 0, 0)
    assert asked.difference(right, wrong)["hr_at_5"] == (1, 1, 1)
