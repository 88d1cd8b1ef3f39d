"""Snapshot, training and evaluation with the store on S3 and jobs on Batch. The job's code depends on neither."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from boat import compute, snapshot, store
from boat.compute import JobSpec
from boat.compute.progress import parse
from boat.models import archive
from tests.cloud.batch.running import Cloud

pytestmark = [pytest.mark.cloud, pytest.mark.slow]

QUICK = {"dimensions": 8, "epochs": 3, "patience": 3, "refit_epochs": 1, "seed": 3, "max_seconds": 60}


@pytest.fixture
def training(cloud: Cloud, shop_snapshot: Callable[..., Path]) -> JobSpec:
    """Return a job that trains a recommender for a small shop in three epochs."""
    uri = store.publish(shop_snapshot(), store.join(cloud.store, "snapshots", "shop"))
    return JobSpec(
        name="train recommend",
        module="boat.models.train",
        arguments={"kind": "recommend", "parameters": json.dumps(QUICK)},
        timeout_seconds=120,
        inputs={"snapshot": uri},
        outputs={"output": store.join(cloud.store, "models", "recommend-1")},
        checkpoint=store.join(cloud.store, "checkpoints", "recommend-1.npz"),
        store=cloud.store,
        key="recommend-1",
    )


@pytest.mark.soak  # tests/cloud/test_night.py covers it with flows
def test_a_model_is_trained_and_evaluated_with_code_from_the_store(
    cloud: Cloud, training: JobSpec, tmp_path: Path
) -> None:
    batch = compute.connect(cloud.batch(price=0.5))
    lines: list[str] = []
    result = batch.run(training, lines.append)
    assert [epoch["epoch"] for epoch in map(parse, lines) if epoch] == [1, 2, 3]
    assert result.dollars == pytest.approx(result.seconds / 7200, abs=1e-4)
    model = store.join(training.outputs["output"], "model.tar.gz")
    manifest = archive.read_manifest(store.fetch(model, tmp_path / "cache"))
    assert manifest.snapshot_digest == snapshot.read(store.fetch(training.inputs["snapshot"], tmp_path)).digest
    assert json.loads(store.read_text(store.join(training.outputs["output"], "curve.json")))[2]["epoch"] == 3

    figures = store.join(training.outputs["output"], "evaluation.json")
    evaluation = replace(
        training,
        name="evaluate recommend",
        module="boat.evaluation.evaluate",
        arguments={"kind": "recommend"},
        inputs={"model": model, "snapshot": training.inputs["snapshot"]},
        outputs={"output": figures},
        checkpoint="",
        key=figures,
    )
    batch.run(evaluation, lambda line: None)
    assert json.loads(store.read_text(figures))["challenger"]["metrics"]["targets"] > 0
    assert cloud.emulator.active() == []


def test_a_training_resumes_on_another_host(cloud: Cloud, training: JobSpec) -> None:
    long = {**QUICK, "epochs": 24, "patience": 24}
    spec = replace(training, arguments={"kind": "recommend", "parameters": json.dumps(long)})
    cloud.emulator.faults.append(("lose",))
    lines: list[str] = []
    result = compute.connect(cloud.ecs()).run(spec, lines.append)
    assert result.attempts == 2
    epochs = [epoch["epoch"] for epoch in map(parse, lines) if epoch]
    again = next(at for at in range(1, len(epochs)) if epochs[at] <= epochs[at - 1] or epochs[at] > epochs[at - 1] + 1)
    assert 1 < epochs[again] <= 13
    curve = json.loads(store.read_text(store.join(spec.outputs["output"], "curve.json")))
    assert [figures["epoch"] for figures in curve] == list(range(1, 25))
    assert not store.exists(spec.checkpoint)
