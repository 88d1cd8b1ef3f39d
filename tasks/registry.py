"""Register models, set aliases, publish model cards. Without Prefect: `boat.registry`, `boat.reports.model_card`."""

import json

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from boat.errors import RegistryUnreachableError
from boat.kinds import KindName, endpoint_of
from boat.registry import tracking
from boat.registry.tracking import Training
from boat.registry.versions import Alias, ModelVersion
from boat.reports import model_card
from boat.reports.model_card import Origin, Released
from boat.snapshot import Snapshot
from tasks.blocks import Platform
from tasks.evaluation import TEST_FROM, TRAINED_UNTIL, Evaluation, Release
from tasks.steps import completed_steps
from tasks.training import TrainedModel
from tasks.transform import training_tables


@task(task_run_name="register {trained.kind}")
def register_model(
    platform: Platform,
    snapshot: Snapshot,
    trained: TrainedModel,
    evaluation: Evaluation,
    release: Release,
    tuning: str,
) -> ModelVersion:
    """Register a trained model as challenger, with its metrics, its learning curve and its origin.

    Args:
        platform: Installation with the registry.
        snapshot: Snapshot of the training.
        trained: The trained model.
        evaluation: Its evaluation on the test days.
        release: The archive that is released if this version is promoted.
        tuning: URL of the tuning's page. Empty without tuning.
    """
    training = Training(
        endpoint_of(trained.kind),
        trained.uri,
        trained.digest,
        snapshot.uri,
        metrics={name: float(value) for name, value in evaluation.report.challenger.metrics.items()},
        parameters={name: json.dumps(value) for name, value in trained.manifest.parameters.items()},
        lineage={
            "snapshot": snapshot.digest,
            "dbt_manifest": snapshot.dbt_manifest,
            "code_version": trained.manifest.code_version,
            "flow_run_id": str(runtime.flow_run.id),
            TRAINED_UNTIL: trained.manifest.trained_until,
            TEST_FROM: snapshot.test_from.isoformat(),
            **({"tuning": tuning} if tuning else {}),
        },
        curve=trained.curve,
        release_uri=release.model.uri if release.model else "",
        release_digest=release.model.digest if release.model else "",
    )
    platform.pending_registrations.add(training)
    try:
        version = _register_pending(platform, training.name)
    except RegistryUnreachableError as error:
        get_run_logger().warning(
            "The registration of the model is pending. %s The next `retrain/nightly` or `promote/latest` registers it "
            "from %s.",
            error,
            platform.store,
        )
        return ModelVersion.unregistered(training)
    return version or ModelVersion.unregistered(training)


def _register_pending(platform: Platform, name: str) -> ModelVersion | None:
    """Record the pending trainings of a model with all trackers, and register them."""

    def record(training: Training) -> None:
        for failure in tracking.record(platform.all_trackers(), training):
            get_run_logger().warning(failure)

    return platform.pending_registrations.register(name, platform.registry, record)


@task(task_run_name="publish model card of {version.name} version {version.version}")
def publish_card(
    platform: Platform, version: ModelVersion, trained: TrainedModel, evaluation: Evaluation, release: Release
) -> None:
    """Publish the model card as an artifact and as a page of the reports."""
    origin = Origin(
        cost=trained.cost,
        parameters=trained.manifest.parameters,
        tables=training_tables(platform, version.name),
        steps=completed_steps(),
    )
    trained_until = (release.model or trained).manifest.trained_until
    released = Released(trained_until, release.text, release.model.cost if release.model else "")
    card = model_card.model_card(version, evaluation.report, trained.curve, evaluation.decision, origin, released)
    with platform.reporting() as folder:
        page = model_card.write_page(card, version, folder)
    create_markdown_artifact(
        key=f"model-card-{trained.kind}",
        description=f"Model card of {version.name} version {version.version}",
        markdown=card.markdown(),
    )
    create_link_artifact(platform.report_link(page, folder), link_text=f"Model card: {card.title}")


@task(task_run_name="find {alias} of {kind}")
def find_version(platform: Platform, kind: KindName, alias: Alias, version: int | None = None) -> ModelVersion | None:
    """Return a version by its number or alias, or `None` if none has the alias. Pending trainings are registered first.

    Raises:
        RegistryError: The model has no version with this number.
    """
    if version is not None:
        return platform.registry.get(endpoint_of(kind), str(version))
    if alias == "challenger":
        _register_pending(platform, endpoint_of(kind))
    return platform.registry.by_alias(endpoint_of(kind), alias)


@task(task_run_name="set champion {version.name} version {version.version}")
def set_champion(platform: Platform, version: ModelVersion, *, is_rollback: bool) -> ModelVersion:
    """Set the version that the endpoint serves as champion. The old champion is previous, except after a rollback."""
    if is_rollback:
        return platform.registry.roll_back(version.name, version.version)
    return platform.registry.promote(version.name, version.version, str(runtime.flow_run.id))
