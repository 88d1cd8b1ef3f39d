"""Next items are asked for as said, and the figures agree with scikit-learn's."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as known

from boat import metrics, snapshot
from boat.recommend import slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import KS, NextItems

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
        begin, end = asked.sessions.offsets[session : session + 2]
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


def test_many_targets_are_a_fixed_sample_and_say_so(shop: Path, asked: NextItems) -> None:
    few, again = (NextItems(shop, snapshot.read(shop), most=50) for _ in range(2))
    assert (len(few.targets), few.targets.every) == (50, asked.targets.every)
    assert few.target.tolist() == again.target.tolist()


def test_the_validation_days_are_asked_for_in_the_same_way(asked: NextItems) -> None:
    before, split = asked.on_validation_days(most=60), asked.manifest.split
    times = before.sessions.events["event_time"].to_pylist()
    assert split.validation_from <= min(times) < max(times) < split.test_from <= asked.manifest.as_of
    assert len(before.target) == 60 < before.targets.every
    right = Ranked(before.target[:, None], np.ones((60, 1)))
    assert before.figures(right)["hr_at_5"] == before.figures(right)["hr_at_5_low"] == 1


def test_slices_share_out_all_targets_and_agree_with_the_whole(asked: NextItems) -> None:
    ranked = Ranked(asked.target[:, None], np.where(asked.targets.shown < 3, 1.0, np.nan)[:, None])
    rows = slices.figures(asked, ranked)
    whole = asked.figures(ranked)
    assert {row["by"] for row in rows} == {"session length", "popularity", "day"}  # one shop, one price, no categories
    lengths = [row for row in rows if row["by"] == "session length"]
    assert sum(row["targets"] for row in lengths) == whole["targets"]
    assert sum(row["targets"] * row["hr_at_20"] for row in lengths) == pytest.approx(
        whole["targets"] * whole["hr_at_20"]
    )
    assert [row["hr_at_20"] for row in lengths if row["slice"] == "after 1 item"] == [1]
    for row in rows:
        assert row["hr_at_20_low"] <= row["hr_at_20"] <= row["hr_at_20_high"]


def test_slices_know_prices_categories_and_what_is_new(shop: Path, asked: NextItems, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shop, tmp_path / "copy"))
    listed = pd.read_parquet(shop / snapshot.PRODUCTS)
    number = listed["product_id"].str[1:].astype(int)
    listed = listed.assign(price=number.astype(float), category="c" + (number // 20).astype(str) + "/leaf")
    unseen = listed[:1].assign(product_id="unseen", price=None, category=None)
    pd.concat([listed, unseen]).to_parquet(copy / snapshot.PRODUCTS)
    priced = NextItems(copy, asked.manifest)
    assert len(priced.names) == priced.known + 1  # nobody has looked at the new one
    right = Ranked(priced.target[:, None], np.ones((len(priced.target), 1)))
    names = {(row["by"], row["slice"]) for row in slices.figures(priced, right)}
    assert {("category", "c0"), ("category", "c1"), ("price", "0 to 9.75"), ("price", "29.25 to 39")} <= names
