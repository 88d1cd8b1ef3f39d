"""Trackers record trainings. A tracker that fails does not affect the training or the other trackers."""

import json
import math
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from boat.registry import tracking
from boat.registry.tracking import MlflowTracker, Training

CURVE = [{"epoch": 1, "loss": 2.5, "validation_mrr": 0.1}, {"epoch": 2, "loss": 1.5, "validation_mrr": math.nan}]


def training(name: str, **changes: object) -> Training:
    fields = {"metrics": {"mrr_at_20": 0.25}, "parameters": {"seed": "7"}, "lineage": {"snapshot": "ab12"}}
    return Training(name, "/store/d1/model.tar.gz", "d1", "/snapshots/1", **{**fields, "curve": CURVE, **changes})


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one database for the module, because creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'new' / 'mlflow.db'}"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name


def test_a_run_has_parameters_metrics_origin_and_a_learning_curve(uri: str, name: str) -> None:
    tracker = MlflowTracker(uri)
    tracker.record(training(name))
    run = tracker.run_of(name, "d1")
    assert run is not None
    client = MlflowClient(uri)
    assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "curve/loss")] == [
        (1, 2.5),
        (2, 1.5),
    ]
    assert len(client.get_metric_history(run.info.run_id, "curve/validation_mrr")) == 1
    assert run.data.metrics["mrr_at_20"] == 0.25
    assert run.data.params == {"seed": "7"}
    assert run.data.tags["snapshot"] == "ab12"
    assert run.data.tags["snapshot_uri"] == "/snapshots/1"
    assert run.info.status == "FINISHED"


def test_a_training_that_is_recorded_twice_has_one_run(uri: str, name: str) -> None:
    for _ in range(2):
        MlflowTracker(uri).record(training(name))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "mrr_at_20")) == 1


def test_the_run_of_an_interrupted_call_is_completed(uri: str, name: str) -> None:
    tracker = MlflowTracker(uri)
    with pytest.raises(MlflowException):
        tracker.record(training(name, parameters={"no such name$": "1"}))
    begun = tracker.run_of(name, "d1")
    tracker.record(training(name))
    finished = tracker.run_of(name, "d1")
    assert begun is not None
    assert finished is not None
    assert (begun.info.run_id, finished.info.status) == (finished.info.run_id, "FINISHED")


def test_if_a_tracker_fails_the_others_still_record(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    down, file = f"sqlite:///{tmp_path}/file/mlflow.db", f"ndjson:{tmp_path}/new/trainings.ndjson"
    trackers = {down: lambda: MlflowTracker(down), "wandb://shop": lambda: tracking.connect("wandb://shop")}
    failures = tracking.record({**trackers, file: lambda: tracking.connect(file)}, training(name))
    assert len(failures) == 2
    assert down in failures[0]
    assert "Start the tracker, or correct its address" in failures[0]
    assert "No tracking back end speaks 'wandb'" in failures[1]
    (line,) = (tmp_path / "new" / "trainings.ndjson").read_text().splitlines()
    assert json.loads(line)["metrics"] == {"mrr_at_20": 0.25}
