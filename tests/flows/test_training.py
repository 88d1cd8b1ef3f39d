"""`retrain` trains the chosen recommender with tuned parameters, also if MLflow is down."""

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
    """Return a shop without purchases, so that only one model is trained."""
    synthetic.generate(tmp_path / "files", sessions=3000, days=8, seed=3, products=100)
    raw_log.load(shop.platform.warehouse, tmp_path / "files")
    shop.plant("delete from raw.events where event_type = 'purchase'")
    ingestion(source=str(tmp_path / "files"), platform=shop.name)
    return shop


def warnings_of(shop: Shop, state: State) -> str:
    """Return the warnings of a flow run."""
    run = {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}, "level": {"ge_": 30}}
    return "\n".join(log["message"] for log in shop.installation.api("POST", "/logs/filter", json={"logs": run}))


def test_a_training_uses_tuned_parameters_and_is_registered_when_mlflow_is_back(
    views: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"recommender": "vmis_knn", "promote": False, "platform": views.name}
    registry = views.platform.registry

    # The exported model has the parameters of the best trial, which the page of the tuning shows.
    retrain(**options, parameters={"recommend": {"window": 7}}, tuning_minutes=5, tuning_trials=2)
    challenger = registry.by_alias(RECOMMEND, "challenger")
    assert registry.by_alias(INTENT, "challenger") is None, "there are no purchases"
    manifest = archive.read_manifest(Path(challenger.uri))
    assert (manifest.model, manifest.parameters["window"]) == ("vmis_knn", 7)
    page = httpx.get(challenger.lineage["tuning"]).text
    assert "2 trials, 2 complete" in page
    for name in ("sample", "neighbours"):
        assert re.search(rf"{name}</td><td[^>]*>{manifest.parameters[name]}<", page)
    registry.promote(RECOMMEND, challenger.version)

    # MLflow is down: the model is trained, and its registration is pending. A warning has the next step.
    (port,) = free_ports(1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    views.platform.copy(update={"tracking_uri": f"http://127.0.0.1:{port}"}).save(views.name, overwrite=True)
    night: State = retrain(**options, seed=1, return_state=True)
    assert night.is_completed()
    assert night.name == "Unregistered"
    warnings = warnings_of(views, night)
    assert f"127.0.0.1:{port} does not answer" in warnings
    assert "The next `retrain/nightly` or `promote/latest` registers it" in warnings
    with pytest.raises(RegistryUnreachableError, match="Start MLflow at this address"):
        promote(kinds=("recommend",), platform=views.name)
    assert registry.by_alias(RECOMMEND, "champion").version == "1"

    # MLflow is back: the promotion registers the pending model with its metrics.
    views.platform.save(views.name, overwrite=True)
    promote(kinds=("recommend",), platform=views.name)
    second = registry.get(RECOMMEND, "2")
    assert second.lineage["flow_run_id"] == str(night.state_details.flow_run_id)
    assert second.digest == archive.digest(Path(second.uri))
    assert second.metrics["mrr_at_20"] > 0
    assert len(registry.versions(RECOMMEND)) == 2
