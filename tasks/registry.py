"""Versions, aliases and cards. Without Prefect: `boat.registry.versions`, `boat.reports.model_card`."""

import json

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from boat.errors import RegistryUnreachableError
from boat.evaluation import gate
from boat.kinds import KindName, endpoint_of
from boat.registry import tracking
from boat.registry.tracking import Training
from boat.registry.versions import Alias, ModelVersion
from boat.reports import model_card
from boat.reports.model_card import Making
from boat.snapshot import Snapshot
from tasks.blocks import Platform
from tasks.evaluation import Evaluation
from tasks.steps import steps_so_far
from tasks.training import TrainedModel
from tasks.transform import tables_behind


@task(task_run_name="register {trained.kind}")
def register_model(
    platform: Platform, taken: Snapshot, trained: TrainedModel, evaluation: Evaluation, tuning: str
) -> ModelVersion:
    """Make a trained model the challenger, with its figures, its learning curve and what it was made from.

    Args:
        platform: Where the registry is.
        taken: What it was trained on.
        trained: The model.
        evaluation: Its figures on the test days.
        tuning: URL of the tuning's page; empty without a tuning.
    """
    training = Training(
        endpoint_of(trained.kind),
        trained.uri,
        trained.digest,
        metrics={name: float(value) for name, value in evaluation.report.challenger.metrics.items()},
        parameters={name: json.dumps(value) for name, value in trained.manifest.parameters.items()},
        lineage={
            "snapshot": taken.digest,
            "snapshot_uri": taken.uri,
            "dbt_manifest": taken.dbt_manifest,
            "code_version": trained.manifest.code_version,
            "flow_run_id": str(runtime.flow_run.id),
            **({"tuning": tuning} if tuning else {}),
        },
        curve=trained.curve,
    )
    platform.waiting.add(training)
    try:
        version = _register_waiting(platform, training.name)
    except RegistryUnreachableError as error:
        get_run_logger().warning(
            "%s The model waits in %s; the next `retrain/nightly` or `promote/latest` registers it.",
            error,
            platform.store,
        )
        return ModelVersion.unregistered(training)
    return version or ModelVersion.unregistered(training)


def _register_waiting(platform: Platform, name: str) -> ModelVersion | None:
    """Register the trainings of a model that wait, after each was recorded wherever that works."""

    def record(training: Training) -> None:
        for failure in tracking.record(platform.all_trackers(), training):
            get_run_logger().warning(failure)

    return platform.waiting.register(name, platform.registry, record)


@task(task_run_name="publish card of {version.name} version {version.version}")
def publish_card(platform: Platform, version: ModelVersion, trained: TrainedModel, evaluation: Evaluation) -> None:
    """Write the model card, as an artifact and as a page of the reports."""
    making = Making(
        cost=trained.cost,
        parameters=trained.manifest.parameters,
        tables=tables_behind(platform, version.name),
        steps=steps_so_far(),
    )
    decision = gate.decide(trained.kind, evaluation.report)
    card = model_card.model_card(version, evaluation.report, trained.curve, decision, making)
    with platform.reporting() as folder:
        page = model_card.write_page(card, version, folder)
    create_markdown_artifact(
        key=f"model-card-{trained.kind}",
        description=f"{version.name} version {version.version}",
        markdown=card.markdown(),
    )
    create_link_artifact(platform.report_link(page, folder), link_text=f"Model card: {card.title}")


@task(task_run_name="find {alias} of {kind}")
def find_version(platform: Platform, kind: KindName, alias: Alias) -> ModelVersion | None:
    """The version an alias stands for; None where there is none. A training that waits is registered first."""
    if alias == "challenger":
        _register_waiting(platform, endpoint_of(kind))
    return platform.registry.by_alias(endpoint_of(kind), alias)


@task(task_run_name="set champion {version.name} version {version.version}")
def make_champion(platform: Platform, version: ModelVersion) -> ModelVersion:
    """Let the registry say what the endpoint does: this version is the champion, the one before it the previous."""
    return platform.registry.promote(version.name, version.version)
