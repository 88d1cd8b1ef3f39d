"""Products without views are recommended after products with similar description vectors."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from boat import kinds
from boat.evaluation import evaluate
from boat.models import archive, sessions
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.models.train import train
from boat.recommend import catalogue
from boat.recommend.catalogue import Catalogue
from boat.recommend.parameters import RecommendParameters

QUICK = RecommendParameters(dimensions=16, window=4, epochs=5, refit_epochs=1, dropout=0.1)


def _circle(number: float) -> str:
    """Return the vector of a product in a shop of forty, similar to its neighbours' vectors."""
    angle = number / 40 * 2 * np.pi
    return json.dumps([np.cos(angle), np.sin(angle), 0.0])


VECTORS = {f"p{number}": _circle(number) for number in range(40)} | {"unviewed": _circle(20.5)}
BROKEN = {"short": "[1, 2]", "words": '["a", "b", "c"]', "zero": "[0, 0, 0]", "endless": "[1, 2, Infinity]", "no": "{"}


def _viewed(*products: str) -> list[SessionEvent]:
    return [{"event_type": "detail", "product_id": product, "event_time": 1.0} for product in products]


def _trained(snapshot_folder: Path, output: Path, parameters: RecommendParameters = QUICK) -> SavedModel:
    train(kinds.load("recommend"), snapshot_folder, output, parameters)
    archive.unpack(output / "model.tar.gz", output / "model", archive.digest(output / "model.tar.gz"))
    return SavedModel(output / "model")


def test_a_product_without_views_is_recommended_after_similar_products(
    shop_snapshot: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot_folder = shop_snapshot(vectors=VECTORS | BROKEN)
    model = _trained(snapshot_folder, tmp_path)
    assert "5 products have unusable description vectors" in capsys.readouterr().out
    assert model.manifest.metrics["vectors_left_out"] == 5
    assert model.manifest.products == 41
    near, far, itself, alone, empty = model.predict(
        sessions.instances(
            [_viewed("p18", "p19"), _viewed("p1", "p2"), _viewed("p18", "p19", "unviewed"), _viewed("unviewed"), []]
        )
    )
    assert "unviewed" in near["product_id"][:10]
    assert "unviewed" not in far["product_id"][:10]
    assert "unviewed" not in itself["product_id"]
    assert "unviewed" not in empty["product_id"]
    # The list after a product without views has the successors of its neighbours, without the product itself.
    assert "unviewed" not in alone["product_id"]
    for answer in (itself, alone):
        assert {"p21", "p22"} <= set(answer["product_id"][:5])
    figures = evaluate.evaluate("recommend", tmp_path / "model.tar.gz", snapshot_folder).challenger
    assert figures.metrics["hr_at_20"] > 0.8
    assert not [result.name for result in figures.behaviour if result.severity == "critical" and not result.passed]


def test_without_vectors_a_model_has_only_viewed_products(shop: Path, tmp_path: Path) -> None:
    model = _trained(shop, tmp_path, RecommendParameters(dimensions=8, window=4, epochs=1, refit_epochs=0))
    assert model.manifest.products == 40
    assert "unviewed_products" not in model.manifest.metrics


@pytest.mark.parametrize(
    "vectors", [{}, BROKEN, {"unviewed": "[1, 0]"}], ids=["none", "broken", "of no viewed product"]
)
def test_a_catalogue_without_usable_vectors_changes_nothing(
    shop_snapshot: Callable[..., Path], vectors: Mapping[str, str]
) -> None:
    described = catalogue.read(shop_snapshot(sessions=120, vectors=vectors))
    unviewed = catalogue.unviewed(described, np.array(["p0", "p1"], object), np.eye(2, dtype=np.float32))
    assert (len(unviewed.names), unviewed.directions.shape, len(unviewed.most_similar)) == (0, (0, 2), 0)


def test_a_direction_is_the_mean_of_similar_products_weighted_by_similarity() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32)
    described = Catalogue(np.array(["a", "b", "new", "unlike"], object), vectors, 0)
    unviewed = catalogue.unviewed(described, np.array(["b", "a"], object), np.eye(2, dtype=np.float32))
    assert unviewed.names.tolist() == ["new"]  # a product without similar products is left out
    np.testing.assert_allclose(unviewed.directions, 0.9 * np.array([[0.8, 0.6]]), rtol=1e-5)
    assert unviewed.most_similar.tolist() == [1]


def test_only_the_most_similar_of_many_new_products_are_used() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(1_500, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = [1, 0, 0]
    described = Catalogue(np.array([f"p{number}" for number in range(1_500)], object), vectors, 0)
    unviewed = catalogue.unviewed(described, np.array(["p0"], object), np.ones((1, 1), np.float32))
    most_similar = [f"p{number}" for number in np.argsort(-vectors[:, 0])[1:] if vectors[number, 0] > 0][:1_000]
    assert unviewed.names.tolist() == most_similar
