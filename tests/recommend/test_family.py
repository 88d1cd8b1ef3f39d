"""All recommenders are exported with the same signature, and each follows its published algorithm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse

from boat import kinds, snapshot
from boat.models import archive, examples, sessions
from boat.models.examples import Windows
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.models.train import train
from boat.recommend import blend, counts
from boat.recommend.parameters import RecommendModel, RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS
from boat.recommend.scores import BlendScores, DirectionScores, FollowerScores, NeighbourScores, PopularScores, newest

MODELS = get_args(RecommendModel)
QUICK = RecommendParameters(dimensions=16, window=4, epochs=6, refit_epochs=1, dropout=0.1, max_seconds=60)
# The next product does not depend on popularity; neighbours and means ignore the order of products.
LEAST_MRR = {"popular": 0.02, "vmis_knn": 0.4, "prod2vec_knn": 0.4}


def _viewed(*products: str) -> list[SessionEvent]:
    return [{"event_type": "detail", "product_id": product, "event_time": 1.0} for product in products]


def _trained(snapshot_folder: Path, output: Path, **parameters: Any) -> SavedModel:
    train(kinds.load("recommend"), snapshot_folder, output, replace(QUICK, **parameters))
    archive.unpack(output / "model.tar.gz", output / "model", archive.digest(output / "model.tar.gz"))
    return SavedModel(output / "model")


def test_the_registry_has_every_recommender_that_a_flow_can_train() -> None:
    assert tuple(RECOMMENDERS) == MODELS
    for recommender in RECOMMENDERS.values():
        assert bool(recommender.network) != bool(recommender.counts)
        assert set(recommender.added) <= {name for name, added in RECOMMENDERS.items() if added.counts}


@pytest.mark.parametrize("name", MODELS)
def test_each_recommender_is_exported_with_the_same_signature(shop: Path, tmp_path: Path, name: str) -> None:
    model = _trained(shop, tmp_path, model=name)
    assert model.manifest.model == name
    assert model.manifest.metrics["validation_mrr"] > LEAST_MRR.get(name, 0.8)
    after_known, empty, after_unknown = model.predict(sessions.instances([_viewed("p3", "p4"), [], _viewed("new")]))
    assert "p4" not in after_known["product_id"]
    fit = examples.read(shop / snapshot.RECOMMEND, snapshot.read(shop).split, "fit")
    popular = fit.vocabulary("product_id")[0].tolist()
    assert empty["product_id"] == after_unknown["product_id"] == popular[:20]
    for answer in (after_known, empty, after_unknown):
        assert len(set(answer["product_id"])) == 20
        assert answer["score"] == sorted(answer["score"], reverse=True)
    if name == "popular":
        assert after_known["product_id"] == [product for product in popular if product != "p4"][:20]
    else:
        neighbours = {"p2", "p5"} if name == "prod2vec_knn" else {"p5"}  # it does not know the order of views
        assert neighbours & set(after_known["product_id"][:2])


@pytest.mark.parametrize("name", MODELS)
def test_each_recommender_makes_short_lists_in_a_small_shop(
    shop_snapshot: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    model = _trained(shop_snapshot(products=5, sessions=120), tmp_path, model=name, epochs=1, refit_epochs=0)
    (answer,) = model.predict(sessions.instances([_viewed("p1")]))
    assert sorted(answer["product_id"]) == ["p0", "p2", "p3", "p4"]


def test_a_product_may_follow_itself_if_repeats_are_allowed(shop: Path, tmp_path: Path) -> None:
    model = _trained(shop, tmp_path, model="popular", repeats="keep")
    (empty, first) = model.predict(sessions.instances([[], _viewed("p1")]))
    assert first["product_id"] == empty["product_id"]
    again = model.predict(sessions.instances([_viewed(empty["product_id"][0])]))[0]
    assert again["product_id"] == empty["product_id"]


def _published_scores(
    histories: list[list[int]], session: list[int], sample: int, neighbours: int, products: int
) -> np.ndarray:
    """Return the scores of VMIS-kNN as in its paper. Histories are oldest first, the session is newest first."""
    position: dict[int, int] = {}
    for back, product in enumerate(session):
        position.setdefault(product, back)
    sharing = [number for number, history in enumerate(histories) if position.keys() & set(history)]
    latest = sorted(sharing, reverse=True)[:sample]
    similarity = {
        number: sum(1 - position[product] / len(session) for product in position.keys() & set(histories[number]))
        for number in latest
    }
    chosen = sorted(latest, key=lambda number: (-round(similarity[number], 9), -number))[:neighbours]
    scores = np.zeros(products)
    for number in chosen:
        newest_shared = min(position[product] for product in position.keys() & set(histories[number]))
        vote = similarity[number] * max(0.0, 1 - (newest_shared + 1) / 10)
        for product in set(histories[number]):
            rarity = np.log(len(histories) / sum(product in history for history in histories))
            scores[product - 1] += vote * rarity
    return scores


@pytest.mark.parametrize(("sample", "neighbours"), [(500, 100), (40, 10), (7, 3)])
def test_vmis_knn_is_the_published_algorithm(sample: int, neighbours: int) -> None:
    draw = np.random.default_rng(0)
    histories = [draw.integers(1, 31, draw.integers(2, 8)).tolist() for _ in range(150)]
    offsets = np.append(0, np.cumsum([len(history) for history in histories]))
    codes = np.concatenate(histories).astype(np.int32)
    memberships = counts.memberships(codes, offsets, np.arange(len(codes), dtype=float), 30)
    scores = NeighbourScores(memberships, sample, neighbours, np.zeros(30))
    queries = [draw.integers(1, 31, size).tolist() for size in (1, 2, 3, 5, 12)]
    recent = np.array([session + [0] * (12 - len(session)) for session in queries], np.int32)
    answers = scores(tf.constant(recent)).numpy()
    for session, answer in zip(queries, answers, strict=True):
        np.testing.assert_allclose(answer, _published_scores(histories, session, sample, neighbours, 30), rtol=1e-4)


def test_sessions_are_as_recent_as_their_last_event() -> None:
    codes, offsets = np.array([1, 2, 3, 1], np.int32), np.array([0, 2, 4])
    memberships = counts.memberships(codes, offsets, np.array([1.0, 9.0, 2.0, 3.0]), 3)
    assert memberships.toarray().tolist() == [[0, 1, 0, 1], [0, 1, 1, 0]]


def test_followers_count_less_with_each_step() -> None:
    follows = sparse.csr_matrix(np.array([[0, 0, 0, 0], [0, 0, 2, 1], [0, 0, 0, 3], [0, 0, 0, 0]], float))
    scores = FollowerScores(follows, np.array([0.5, 0.3, 0.2]))
    after_one_then_two, after_one = scores(tf.constant([[2, 1], [1, 0]], tf.int32)).numpy()
    assert after_one == pytest.approx([0, 2, 1], abs=1e-5)
    assert after_one_then_two == pytest.approx([0, 0.8 * 2, 3 + 0.8 * 1], abs=1e-5)


def test_a_product_in_the_window_is_raised_once_by_its_newest_position() -> None:
    directions = DirectionScores(_ConstantDirection(), np.eye(3, dtype=np.float32))
    recent = tf.constant([[1, 2, 2, 1], [3, 1, 2, 0]], tf.int32)
    raised = BlendScores(directions, [], [], np.array([0, 0.25, -0.5, 1], np.float32))(recent) - directions(recent)
    assert raised.numpy().tolist() == [[0, 0.25, 0], [0.25, -0.5, 0]]


def test_counts_enter_a_blend_by_the_root_of_their_share_of_the_maximum() -> None:
    directions = DirectionScores(_ConstantDirection(), np.eye(3, dtype=np.float32))
    counted = PopularScores(np.array([0.64, 0.16, 0.0], np.float32))
    recent = tf.constant([[1, 0]], tf.int32)
    blended = BlendScores(directions, [counted, counted], [0.4, 0.0], np.zeros(2, np.float32))(recent)
    np.testing.assert_allclose((blended - directions(recent)).numpy(), [[0.4, 0.2, 0]], atol=1e-6)


@pytest.mark.parametrize(("truth", "weighs"), [("counted", True), ("network", False)])
def test_a_blend_weighs_counts_by_their_validation_metric(truth: str, weighs: bool) -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(vectors @ vectors.T), axis=1)[:, 1] + 1
    follows = np.zeros((31, 31))
    follows[np.arange(1, 31), draw.permutation(30) + 1] = 1
    last = draw.integers(1, 31, 400).astype(np.int32)
    target = follows.argmax(axis=1)[last] if truth == "counted" else nearest[last - 1]
    validation = Windows(np.column_stack([last, np.zeros_like(last)]), target.astype(np.int32))
    counted = FollowerScores(sparse.csr_matrix(follows), np.full(30, 1 / 30))
    mix = blend.choose(DirectionScores(_LastDirection(vectors), vectors), [counted], validation, repeats=False)
    assert (mix.weights[0] > 0.4) == weighs


@pytest.mark.parametrize(("back", "raised"), [(True, True), (False, False)])
def test_viewed_products_are_raised_if_shoppers_return_to_them(back: bool, raised: bool) -> None:
    draw = np.random.default_rng(0)
    vectors = np.eye(30, dtype=np.float32)
    recent = np.array([draw.permutation(15)[:3] + 1 for _ in range(300)], np.int32)
    target = recent[:, 1] if back else recent[:, 0] + 15
    mix = blend.choose(DirectionScores(_LastDirection(vectors), vectors), [], Windows(recent, target), repeats=False)
    assert (mix.bonuses[1] > 0) == raised
    assert mix.bonuses[0] == 0


class _LastDirection:
    """The direction of the last product."""

    weights: tuple[tf.Variable, ...] = ()

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = tf.constant(vectors)

    def __call__(self, recent: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._vectors, recent[:, 0] - 1)


class _ConstantDirection:
    """A direction that is the same for all sessions."""

    weights: tuple[tf.Variable, ...] = ()

    def __call__(self, recent: tf.Tensor) -> tf.Tensor:
        return tf.ones([tf.shape(recent)[0], 3]) / np.sqrt(3)


def test_only_the_newest_position_of_a_product_counts() -> None:
    recent = tf.constant([[4, 5, 4, 0], [0, 0, 0, 0]], tf.int32)
    assert newest(recent).numpy().tolist() == [[True, True, False, False], [False] * 4]


def test_products_of_the_same_sessions_have_similar_directions() -> None:
    follows = np.zeros((7, 7))
    follows[1, 2] = follows[2, 3] = follows[4, 5] = follows[5, 6] = 10
    unit = counts.directions(sparse.csr_matrix(follows), 3, seed=0)
    cosines = unit[1:] @ unit[1:].T
    assert cosines[:3, :3].min() > 0.9
    assert np.abs(cosines[:3, 3:]).max() < 0.1
