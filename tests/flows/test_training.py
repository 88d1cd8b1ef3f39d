"""`retrain`: the model and the search a user asks for, and a night without a tracker."""

from pathlib import Path

import httpx
import pytest

from boat import landing, synthetic
from boat.models import archive
from boat.search import FIGURES
from boat.settings import RECOMMEND
from flows.ingestion import ingestion
from flows.retrain import retrain
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def views(shop: Shop, tmp_path: Path) -> Shop:
    """A shop in which nobody buys, so that there is one model to train."""
    synthetic.generate(tmp_path / "files", sessions=3000, days=8, seed=3, products=100)
    landing.load(shop.platform.warehouse, tmp_path / "files")
    shop.plant("delete from raw.events where event_type = 'purchase'")
    ingestion(source=str(tmp_path / "files"), platform=shop.name)
    return shop


def test_the_model_asked_for_is_searched_and_trained_with_the_best_that_was_found(views: Shop) -> None:
    options = {"model": "vmis_knn", "parameters": {"recommend": {"window": 7}}, "promote": False}
    retrain(**options, search_minutes=5, search_trials=2, platform=views.name)
    challenger = views.platform.registry.by_alias(RECOMMEND, "challenger")
    assert challenger is not None
    manifest = archive.read_manifest(Path(challenger.uri))
    assert manifest.model == "vmis_knn"
    assert manifest.parameters["window"] == 7

    page = httpx.get(challenger.lineage["search"]).text
    assert "2 trials, 2 of them to their end" in page
    assert FIGURES["recommend"][0].replace("_", " ") in page
    for name in ("sample", "neighbours"):
        assert f"<td>{name}</td><td>{manifest.parameters[name]}</td>" in page
    assert manifest.metrics["validation_mrr"] > 0
