"""Targets are the items after the first, and metrics agree with scikit-learn."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics as sklearn_metrics

from boat import metrics, snapshot
from boat.evaluation.report import Difference
from boat.models.examples import Sessions
from boat.recommend import slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import KS, RecommendTestSet, choose_targets

PRODUCTS = 30


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Return distinct scores of all products [targets, products], and the target products."""
    draw = np.random.default_rng(4)
    return draw.permuted(np.tile(np.arange(PRODUCTS) / PRODUCTS, (400, 1)), axis=1), draw.integers(0, PRODUCTS, 400)


@pytest.fixture(scope="module")
def rank(scored: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    scores, target = scored
    order = np.argsort(-scores, axis=1)
    return metrics.ranks(np.take_along_axis(scores, order, axis=1), order, target)


@pytest.fixture(scope="module")
def test_set(shop: Path) -> RecommendTestSet:
    return RecommendTestSet(shop, snapshot.read(shop))


@pytest.mark.parametrize("k", KS)
def test_hit_rate_is_scikit_learns_top_k_accuracy(
    scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray, k: int
) -> None:
    scores, target = scored
    expected = sklearn_metrics.top_k_accuracy_score(target, scores, k=k, labels=np.arange(PRODUCTS))
    assert metrics.hit_rate(rank, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", KS)
def test_gains_are_scikit_learns_ndcg(scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray, k: int) -> None:
    scores, target = scored
    is_target = np.arange(PRODUCTS) == target[:, None]
    assert metrics.gains(rank, k).mean() == pytest.approx(sklearn_metrics.ndcg_score(is_target, scores, k=k))


def test_reciprocal_ranks_are_scikit_learns_precision_of_the_ranking(
    scored: tuple[np.ndarray, np.ndarray], rank: np.ndarray
) -> None:
    scores, target = scored
    expected = sklearn_metrics.label_ranking_average_precision_score(np.arange(PRODUCTS) == target[:, None], scores)
    assert metrics.reciprocal_ranks(rank, PRODUCTS).mean() == pytest.approx(expected)


@pytest.mark.parametrize("k", KS)
def test_recall_of_the_rest_of_the_session_is_scikit_learns(test_set: RecommendTestSet, k: int) -> None:
    draw = np.random.default_rng(5)
    lists = draw.permuted(np.tile(np.arange(1, test_set.vocabulary + 1), (len(test_set.target), 1)), axis=1)[:, :20]
    scores = np.tile(np.linspace(1, 0, 20), (len(lists), 1))
    rest, listed = (np.zeros((len(lists), len(test_set.names) + 1), bool) for _ in range(2))
    for row, (session, length) in enumerate(zip(test_set.targets.session, test_set.targets.length, strict=True)):
        begin, end = test_set.sessions.offsets[session : session + 2]
        rest[row, test_set.codes[begin + length : end]] = True
        listed[row, lists[row, :k]] = True
    expected = sklearn_metrics.recall_score(rest, listed, average="samples")
    assert test_set.values(Ranked(lists, scores))[f"recall_at_{k}"].mean() == pytest.approx(expected)


def test_a_repeated_product_counts_once(test_set: RecommendTestSet) -> None:
    lists = np.repeat(test_set.target[:, None], 20, axis=1)
    recall = test_set.values(Ranked(lists, np.ones(lists.shape)))["recall_at_20"]
    assert recall.max() == 1
    assert recall.min() > 0


def test_a_score_that_is_not_a_number_is_a_miss() -> None:
    rank = metrics.ranks(np.array([[np.nan, np.nan], [2, np.nan]]), np.array([[7, 8], [7, 8]]), np.array([7, 7]))
    assert rank.tolist() == [np.inf, 1]


def test_copies_of_grouped_values_do_not_narrow_the_interval() -> None:
    draw = np.random.default_rng(6)
    once = draw.random(400)
    ((low, high),) = metrics.Draws(np.arange(400)).intervals(once[:, None])
    # Ten copies of a value add no information.
    ((low_of_ten, high_of_ten),) = metrics.Draws(np.repeat(np.arange(400), 10)).intervals(np.repeat(once, 10)[:, None])
    assert (low_of_ten, high_of_ten) == pytest.approx((low, high))
    assert high - low == pytest.approx(2 * 1.96 * once.std() / np.sqrt(400), rel=0.2)
    assert low < once.mean() < high


def test_a_model_equals_itself_and_is_better_than_a_wrong_model(test_set: RecommendTestSet) -> None:
    scores = np.ones((len(test_set.target), 1))
    right, wrong = (
        Ranked(products[:, None], scores) for products in (test_set.target, np.full_like(test_set.target, -1))
    )
    assert test_set.difference(right, right)["mrr_at_20"] == Difference(0, 0, 0)
    assert test_set.difference(right, wrong)["hr_at_5"] == Difference(1, 1, 1)


def test_many_targets_are_reduced_to_a_fixed_sample(shop: Path, test_set: RecommendTestSet) -> None:
    few, again = (RecommendTestSet(shop, snapshot.read(shop), limit=50) for _ in range(2))
    assert (len(few.targets), few.targets.total) == (50, test_set.targets.total)
    assert few.target.tolist() == again.target.tolist()


def test_the_validation_days_have_the_same_kind_of_targets(test_set: RecommendTestSet) -> None:
    before, split = test_set.on_validation_days(limit=60), test_set.manifest.split
    times = before.sessions.events["event_time"].to_pylist()
    assert split.validation_from <= min(times) < max(times) < split.test_from <= test_set.manifest.as_of
    assert len(before.target) == 60 < before.targets.total
    right = Ranked(before.target[:, None], np.ones((60, 1)))
    assert before.score(right)["hr_at_5"] == before.score(right)["hr_at_5_low"] == 1


def test_slices_cover_all_targets_and_add_up_to_the_total(test_set: RecommendTestSet) -> None:
    ranked = Ranked(test_set.target[:, None], np.where(test_set.targets.length < 3, 1.0, np.nan)[:, None])
    rows = slices.score(test_set, ranked)
    whole = test_set.score(ranked)
    assert {row.by for row in rows} == {"session length", "popularity", "day"}  # one shop, one price, no categories
    lengths = [row for row in rows if row.by == "session length"]
    assert sum(row.targets for row in lengths) == whole["targets"]
    assert sum(row.targets * row.metrics["hr_at_20"] for row in lengths) == pytest.approx(
        whole["targets"] * whole["hr_at_20"]
    )
    assert [row.metrics["hr_at_20"] for row in lengths if row.name == "after 1 item"] == [1]
    for row in rows:
        assert row.metrics["hr_at_20_low"] <= row.metrics["hr_at_20"] <= row.metrics["hr_at_20_high"]


def test_slices_include_prices_categories_and_new_products(
    shop: Path, test_set: RecommendTestSet, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(shop, tmp_path / "copy"))
    listed = pd.read_parquet(shop / snapshot.PRODUCTS)
    number = listed["product_id"].str[1:].astype(int)
    listed = listed.assign(price=number.astype(float), category="c" + (number // 20).astype(str) + "/leaf")
    unseen = listed[:1].assign(product_id="unseen", price=None, category=None)
    pd.concat([listed, unseen]).to_parquet(copy / snapshot.PRODUCTS)
    priced = RecommendTestSet(copy, test_set.manifest)
    assert len(priced.names) == priced.vocabulary + 1  # the new product has no views
    right = Ranked(priced.target[:, None], np.ones((len(priced.target), 1)))
    names = {(row.by, row.name) for row in slices.score(priced, right)}
    assert {("category", "c0"), ("category", "c1"), ("price", "0 to 9.75"), ("price", "29.25 to 39")} <= names


def test_the_interval_of_sampled_targets_contains_the_true_mean_as_often_as_it_says() -> None:
    draw, inside, widths = np.random.default_rng(0), [], []
    for _ in range(200):
        lengths = draw.geometric(0.2, size=1_500)
        chances = draw.beta(2, 6, size=1_500)  # of a hit, the same for all targets of a session; the mean is 0.25
        part = Sessions(pa.table({"event": np.zeros(int((lengths + 1).sum()))}), np.append(0, np.cumsum(lengths + 1)))
        targets = choose_targets(part, limit=2_000)
        assert (len(targets), targets.total) == (2_000, lengths.sum())
        hits = draw.random(len(targets)) < chances[targets.session]
        ((low, high),) = metrics.Draws(targets.session).intervals(hits[:, None].astype(float))
        inside.append(low <= 0.25 <= high)
        widths.append(high - low)
    assert 0.9 <= np.mean(inside) <= 0.99  # 95 % of 200 are 190, with a standard deviation of 3
    assert np.mean(widths) < 0.06
