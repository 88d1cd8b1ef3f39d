"""Evaluation on the test days, and gates. Without Prefect: `python -m boat.evaluation.evaluate --help`."""

from dataclasses import dataclass
from datetime import datetime

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact

from boat import store
from boat.compute import JobSpec
from boat.errors import RegistryUnreachableError
from boat.evaluation import gate
from boat.evaluation.gate import Decision
from boat.evaluation.report import EvaluationReport
from boat.evaluation.twin import TwinReport
from boat.kinds import KindName, endpoint_of
from boat.registry.versions import ModelVersion
from boat.snapshot import Snapshot
from tasks import alerts
from tasks.blocks import Platform
from tasks.jobs import run_job
from tasks.measured import measured
from tasks.training import TrainedModel

TRAINED_UNTIL, TEST_FROM = "trained_until", "test_from"
"""Lineage of a version: the newest event that its evaluated archive was trained on, and the start of the test days."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a challenger.

    Attributes:
        uri: JSON file of the report.
        report: Metrics of challenger, champion and baselines on the same test days.
        champion: Version of the champion in the report; empty if it has none.
        incomparable: Why the champion is not in the report; empty if it is, or if there is no champion.
    """

    uri: str
    report: EvaluationReport
    champion: str
    incomparable: str = ""


@dataclass(frozen=True)
class Release:
    """The archive that a version releases.

    Attributes:
        model: The refitted model; `None` if the evaluated one is released.
        text: The comparison with its evaluated twin, or why there is none.
    """

    model: TrainedModel | None
    text: str


@task(task_run_name="evaluate {kind}")
@measured
def evaluate_model(
    platform: Platform,
    kind: KindName,
    model_uri: str,
    snapshot_uri: str,
    test_from: str,
    *,
    needs_champion: bool = True,
) -> Evaluation:
    """Evaluate a model on the test days, and compare it with the champion and the baselines.

    A model is evaluated once against each champion.

    Args:
        platform: Installation with model, snapshot and registry.
        kind: Kind of the model.
        model_uri: Its `model.tar.gz`.
        snapshot_uri: The snapshot with the test days.
        test_from: Start of the test days, ISO 8601, UTC. A champion that knows them is not compared.
        needs_champion: Whether to fail if the registry does not answer. If not, only baselines are compared.

    Raises:
        DataError: The report in the artifact store is not of this version of Boat.
        RegistryUnreachableError: The registry does not answer, and `needs_champion`.
    """
    try:
        champion = platform.registry.by_alias(endpoint_of(kind), "champion")
    except RegistryUnreachableError as error:
        if needs_champion:
            raise
        get_run_logger().warning("%s The %s model is compared with the baselines only.", error, kind)
        champion = None
    incomparable = _knows_test_days(champion, test_from) if champion else ""
    if incomparable:
        get_run_logger().warning(incomparable)
        champion = None
    version = champion.version if champion else ""
    output = store.join(model_uri.rsplit("/", 1)[0], f"evaluation-against-{version or 'baselines'}.json")
    if not store.exists(output):
        inputs = {"model": model_uri, "snapshot": snapshot_uri}
        if champion:
            inputs["champion"] = champion.uri
        spec = JobSpec(
            name=f"evaluate {kind}",
            module="boat.evaluation.evaluate",
            arguments={"kind": kind},
            inputs=inputs,
            outputs={"output": output},
            store=platform.store,
            key=f"{runtime.flow_run.id} {output}",
        )
        run_job(platform, spec, get_run_logger().debug)
    report = EvaluationReport.from_json(store.read_text(output), output)
    evaluation = Evaluation(output, report, version, incomparable)
    _show_behaviour(kind, evaluation)
    return evaluation


def _knows_test_days(champion: ModelVersion, test_from: str) -> str:
    """Return why a champion cannot be compared on test days; empty if it was trained before them."""
    until = champion.lineage.get(TRAINED_UNTIL, "")  # empty for versions of older releases of Boat
    if not until or not test_from or datetime.fromisoformat(until) < datetime.fromisoformat(test_from):
        return ""
    return (
        f"The champion, version {champion.version}, was trained on events up to {until}, and the test days begin at "
        f"{test_from}. Train a challenger on newer events, or with fewer test days."
    )


@task(task_run_name="compare {trained.kind} with its evaluated twin")
@measured
def compare_twin(platform: Platform, snapshot: Snapshot, trained: TrainedModel, refitted: TrainedModel) -> Release:
    """Compare a refitted model with its evaluated twin. One that differs too much is not released: an alert is sent.

    Args:
        platform: Installation with the models and the snapshot.
        snapshot: Snapshot of both.
        trained: The evaluated model.
        refitted: The same model, fitted again on all days.
    """
    output = store.join(refitted.uri.rsplit("/", 1)[0], "comparison.json")
    spec = JobSpec(
        name=f"compare {trained.kind}",
        module="boat.evaluation.twin",
        arguments={"kind": trained.kind},
        inputs={"model": refitted.uri, "twin": trained.uri, "snapshot": snapshot.uri},
        outputs={"output": output},
        store=platform.store,
        key=output,
    )
    run_job(platform, spec, get_run_logger().debug)
    decision = gate.decide_release(trained.kind, TwinReport.from_json(store.read_text(output), output))
    _show_gates(f"release-{trained.kind}", decision)
    if decision.accepted:
        return Release(refitted, decision.text)
    alerts.send(
        f"{endpoint_of(trained.kind)}: the model of all days is not released",
        f"{decision.text} The evaluated model, which does not know the test days, is registered for release instead.",
        str(runtime.flow_run.id),
        get_run_logger(),
    )
    return Release(None, decision.text)


def _show_behaviour(kind: KindName, evaluation: Evaluation) -> None:
    results = sorted(
        evaluation.report.challenger.behaviour,
        key=lambda result: (result.passed, result.severity != "critical"),
    )
    failed = [f"{result.name} ({result.severity})" for result in results if not result.passed]
    create_table_artifact(
        key=f"behaviour-{kind}",
        description=f"{len(results)} behaviour tests, {len(failed)} failed: {', '.join(failed)}".rstrip(": "),
        table=[
            {
                "test": result.name.replace("_", " "),
                "severity": result.severity,
                "passed": "yes" if result.passed else "NO",
                "value": result.summary,
                "description": result.text,
            }
            for result in results
        ],
    )
    if failed:
        get_run_logger().warning("Behaviour tests of %s failed: %s.", kind, ", ".join(failed))


@task(task_run_name="check gates of {kind}")
def check_gates(kind: KindName, evaluation: Evaluation) -> Decision:
    """Check the gates of a challenger and show them. A failed behaviour gate sends an alert."""
    decision = gate.decide(kind, evaluation.report, incomparable=evaluation.incomparable)
    _show_gates(f"gates-{kind}", decision)
    if decision.misbehaves:
        tests = "\n".join(f"{condition.name}: {condition.text}" for condition in decision.misbehaves)
        alerts.send(
            f"{endpoint_of(kind)}: a challenger fails behaviour tests",
            tests,
            str(runtime.flow_run.id),
            get_run_logger(),
        )
    return decision


def _show_gates(key: str, decision: Decision) -> None:
    create_table_artifact(
        key=key,
        description=decision.text,
        table=[
            {"gate": condition.name, "passed": "yes" if condition.passed else "NO", "description": condition.text}
            for condition in decision.gates
        ],
    )
