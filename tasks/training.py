"""Snapshot and training. Without Prefect: `boat.snapshot.take(...)`, `python -m boat.models.train --help`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact

from boat import kinds, store
from boat.compute import JobSpec, progress
from boat.kinds import KINDS, KindName, TrainingParameters
from boat.models import archive
from boat.models.archive import ModelManifest
from boat.models.parameters import ChosenParameters, check
from boat.render import cards
from boat.snapshot import Snapshot, take
from tasks.blocks import Platform
from tasks.jobs import run_job, summary
from tasks.live import LiveArtifact
from tasks.measured import measured
from tasks.transform import manifest_digest

_OVERHEAD_SECONDS = 1800
"""Time of a job without the training itself."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in the artifact store.

    Attributes:
        kind: Kind of the model.
        uri: Its `model.tar.gz`.
        digest: SHA-256 of that file.
        manifest: The manifest in that file.
        curve: The metrics of each epoch.
        cost: Time and cost of the training job, as text.
    """

    kind: KindName
    uri: str
    digest: str
    manifest: ModelManifest
    curve: tuple[Mapping[str, Any], ...]
    cost: str


@task(task_run_name="take snapshot", tags=["warehouse"])
@measured
def take_snapshot(platform: Platform, days: int, as_of: datetime | None, test_days: int | None) -> Snapshot:
    """Take a snapshot of the training examples of the last `days` days of the platform's shop."""
    snapshot = take(
        platform.warehouse,
        platform.store,
        days=days,
        as_of=as_of,
        dbt_manifest=manifest_digest(platform),
        test_days=test_days,
        shop=platform.shop,
    )
    text = [
        f"- {snapshot.sessions:,} sessions up to {snapshot.as_of:%Y-%m-%d %H:%M} UTC, {snapshot.rows:,} rows",
        f"- {snapshot.purchases:,} sessions with a purchase",
        f"- tested from {snapshot.test_from:%Y-%m-%d %H:%M} UTC, {snapshot.split_rule}",
        f"- digest `{snapshot.digest}`",
        f"- folder `{snapshot.uri}`",
    ]
    if snapshot.intent_obstacle:
        text.append(f"- **No intent model this time: {snapshot.intent_obstacle}.**")
        get_run_logger().warning("No intent model this time: %s.", snapshot.intent_obstacle)
    create_markdown_artifact(key="snapshot", description="Training data of the models", markdown="\n".join(text))
    return snapshot


def training_parameters(
    common: Mapping[str, Any], *by_kind: Mapping[KindName, Mapping[str, Any]]
) -> Mapping[KindName, ChosenParameters]:
    """Check the parameters of each kind's training before any job starts.

    Args:
        common: Parameters of all kinds.
        by_kind: Parameters by kind; later ones replace earlier ones.

    Raises:
        SettingError: A parameter is unknown or has a value that cannot work.
    """
    chosen: dict[KindName, ChosenParameters] = {}
    for kind in KINDS:
        values = dict(common)
        for parameters in by_kind:
            values |= parameters.get(kind, {})
        chosen[kind] = ChosenParameters(check(values, kinds.load(kind).parameters), frozenset(values))
    return chosen


def kinds_in(snapshot: Snapshot, names: tuple[KindName, ...]) -> tuple[KindName, ...]:
    """Return the kinds that a snapshot has enough examples for."""
    return tuple(name for name in names if not kinds.load(name).obstacle(snapshot))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@task(task_run_name="train {kind}")
@measured
def train_model(platform: Platform, snapshot: Snapshot, kind: KindName, parameters: TrainingParameters) -> TrainedModel:
    """Train a model in a job, with a live learning curve in the UI.

    Raises:
        JobError: The job failed. The message has its last lines.
    """
    # The same in each retry, so that a retry finds the running job.
    work = f"{kind}-{parameters.model}-{runtime.flow_run.id}".replace("_", "-")
    output = store.join(platform.store, "models", work)
    logger = get_run_logger()
    chart = LiveArtifact(f"learning-curve-{kind}", f"Learning curve of {kind}")
    curve: list[Mapping[str, Any]] = []

    def show(line: str) -> None:
        epoch = progress.parse(line)
        if epoch is None:
            logger.debug(line)
            return
        curve[:] = [row for row in curve if row["epoch"] < epoch["epoch"]]  # a new host may repeat the last epoch
        curve.append(epoch)
        logger.info("%s: %s", kind, ", ".join(f"{name} {_figure(value)}" for name, value in epoch.items()))
        chart.update(lambda: cards.learning_curve(curve))

    spec = JobSpec(
        name=f"train {kind}",
        module="boat.models.train",
        arguments={"kind": kind, "parameters": json.dumps(asdict(parameters))},
        timeout_seconds=job_seconds(parameters.max_seconds),
        inputs={"snapshot": snapshot.uri},
        outputs={"output": output},
        checkpoint=store.join(platform.store, "checkpoints", f"{work}.npz"),
        store=platform.store,
        key=work,
    )
    result = run_job(platform, spec, show)
    chart.update(lambda: f"{cards.learning_curve(curve)}\n\n{summary(result)}", now=True)
    return stored_model(platform, kind, output, tuple(curve), summary(result))


def job_seconds(max_seconds: float) -> int:
    """Return the time limit of a job that trains for at most this many seconds."""
    return _OVERHEAD_SECONDS + int(max_seconds)


def stored_model(
    platform: Platform, kind: KindName, output: str, curve: tuple[Mapping[str, Any], ...], cost: str
) -> TrainedModel:
    """Return the model that a job wrote to a folder of the artifact store."""
    model = store.join(output, "model.tar.gz")
    path = platform.fetch(model)
    return TrainedModel(kind, model, archive.digest(path), archive.read_manifest(path), curve, cost)
