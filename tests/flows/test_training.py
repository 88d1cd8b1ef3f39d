"""`retrain`: the model and the search a user asks for, and nights without a tracker."""

import re
from pathlib import Path

import httpx
import pytest
from prefect.states import State

from boat import raw_log, synthetic
from boat.errors import RegistryUnreachableError
from boat.kinds import INTENT, RECOMMEND
from boat.models import archive
from flows.ingestion import ingestion
from flows.promote import promote
from flows.retrain import retrain
from tests.installation import free_ports
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def views(shop: Shop, tmp_path: Path) -> Shop:
    """A shop in which nobody buys, so that there is one model to train."""
    synthetic.generate(tmp_path / "files", sessions=3000, days=8, seed=3, products=100)
    raw_log.load(shop.platform.warehouse, tmp_path / "files")
    shop.plant("delete from raw.events where event_type = 'purchase'")
    ingestion(source=str(tmp_path / "files"), platform=shop.name)
    return shop


def said(shop: Shop, state: State) -> str:
    """The warnings of a flow run."""
    run = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}, "level": {"ge_": 30}}
    return "\n".join(log["message"] for log in shop.installation.api("POST", "/logs/filter", json={"logs": run}))


def test_a_search_feeds_the_training_and_a_night_without_mlflow_loses_nothing(
    views: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"recommender": "vmis_knn", "promote": False, "platform": views.name}
    registry = views.platform.registry

    # The best of what was tried is what the exported model was made with, and its page tells of it.
    retrain(**options, parameters={"recommend": {"window": 7}}, tuning_minutes=5, tuning_trials=2)
    challenger = registry.by_alias(RECOMMEND, "challenger")
    assert registry.by_alias(INTENT, "challenger") is None, "nobody has bought"
    manifest = archive.read_manifest(Path(challenger.uri))
    assert (manifest.model, manifest.parameters["window"]) == ("vmis_knn", 7)
    page = httpx.get(challenger.lineage["tuning"]).text
    assert "2 trials, 2 complete" in page
    for name in ("sample", "neighbours"):
        assert re.search(rf"{name}</td><td[^>]*>{manifest.parameters[name]}<", page)
    registry.promote(RECOMMEND, challenger.version)

    # MLflow is down: the model is trained, kept and shown, and the run says what is missing and what to do.
    (port,) = free_ports(1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    views.platform.copy(update={"tracking_uri": f"http://127.0.0.1:{port}"}).save(views.name, overwrite=True)
    night: State = retrain(**options, seed=1, return_state=True)
    assert night.is_completed()
    assert night.name == "Unregistered"
    warnings = said(views, night)
    assert f"127.0.0.1:{port} does not answer" in warnings
    assert "the next `retrain/nightly` or `promote/latest` registers it" in warnings
    with pytest.raises(RegistryUnreachableError, match="Start MLflow there"):
        promote(kinds=("recommend",), platform=views.name)
    assert registry.by_alias(RECOMMEND, "champion").version == "1"

    # It is back: the promotion finds the model that waited, with its figures, beside the champion.
    views.platform.save(views.name, overwrite=True)
    promote(kinds=("recommend",), platform=views.name)
    second = registry.get(RECOMMEND, "2")
    assert second.lineage["flow_run_id"] == str(night.state_details.flow_run_id)
    assert second.digest == archive.digest(Path(second.uri))
    assert second.metrics["mrr_at_20"] > 0
    assert len(registry.versions(RECOMMEND)) == 2
