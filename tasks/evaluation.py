"""Evaluation on the test days, and gates. Without Prefect: `python -m boat.evaluation.evaluate --help`."""

from dataclasses import dataclass
from datetime import datetime

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact

from boat import store
from boat.compute import JobSpec
from boat.errors import RegistryUnreachableError
from boat.evaluation import gate
from boat.evaluation.gate import Decision, Lift
from boat.evaluation.report import EvaluationReport
from boat.evaluation.twin import COMPARISON, TwinReport
from boat.kinds import KindName, endpoint_of
from boat.models.train import WARM_START
from boat.registry.versions import ModelVersion
from boat.snapshot import Snapshot
from tasks import alerts
from tasks.blocks import GatePolicy, Platform
from tasks.jobs import run_job, summary
from tasks.measured import measured
from tasks.training import TrainedModel, job_seconds, stored_model

TRAINED_UNTIL, TEST_FROM = "trained_until", "test_from"
"""Lineage of a version: the newest event that its evaluated archive was trained on, and the start of the test days."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a challenger.

    Attributes:
        uri: JSON file of the report.
        report: Metrics of challenger, champion and baselines on the same test days.
        champion: Version of the champion in the report; empty if it has none.
        decision: The decision of the gates.
    """

    uri: str
    report: EvaluationReport
    champion: str
    decision: Decision


@dataclass(frozen=True)
class Release:
    """The archive that a version releases.

    Attributes:
        model: The model of all days; `None` if the evaluated one is released.
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
    """Evaluate a model on the test days, compare it with the champion and the baselines, and check its gates.

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
    name, earlier = endpoint_of(kind), list[Lift]()
    try:
        champion = platform.registry.by_alias(name, "champion")
        earlier = [Lift(value, at) for uri, value, at in platform.registry.lifts(name) if uri != model_uri]
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
    policy = GatePolicy.load_for(kind).gates(kind)
    evaluation = Evaluation(output, report, version, gate.decide(kind, report, policy, incomparable, earlier))
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


@task(task_run_name="fit {trained.kind} on all days")
@measured
def fit_release(platform: Platform, snapshot: Snapshot, trained: TrainedModel) -> Release:
    """Fit an evaluated model again on all days. One that differs too much is not released: an alert is sent.

    Args:
        platform: Installation with the model and the snapshot.
        snapshot: Snapshot of its training.
        trained: The evaluated model.

    Raises:
        JobError: The job failed. The message has its last lines.
    """
    folder = trained.uri.rsplit("/", 1)[0]
    warm_start, output = store.join(folder, WARM_START), f"{folder}-release"
    if not store.exists(warm_start):
        return Release(None, "This kind of model cannot be fitted again.")
    spec = JobSpec(
        name=f"fit {trained.kind} on all days",
        module="boat.evaluation.twin",
        arguments={"kind": trained.kind},
        timeout_seconds=job_seconds(trained.manifest.parameters["max_seconds"]),
        inputs={"twin": trained.uri, "warm-start": warm_start, "snapshot": snapshot.uri},
        outputs={"output": output},
        store=platform.store,
        key=output,
    )
    result = run_job(platform, spec, get_run_logger().debug)
    comparison = store.join(output, COMPARISON)
    report = TwinReport.from_json(store.read_text(comparison), comparison)
    decision = gate.decide_release(trained.kind, report)
    _show_gates(f"release-{trained.kind}", decision)
    if decision.accepted:
        return Release(stored_model(platform, trained.kind, output, (), summary(result)), decision.text)
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
        key=lambda result: (["NO", "not tested", "yes"].index(result.verdict), result.severity != "critical"),
    )
    failed = [f"{result.name} ({result.severity})" for result in results if not result.passed]
    create_table_artifact(
        key=f"behaviour-{kind}",
        description=f"{len(results)} behaviour tests, {len(failed)} failed: {', '.join(failed)}".rstrip(": "),
        table=[
            {
                "test": result.name.replace("_", " "),
                "severity": result.severity,
                "passed": result.verdict,
                "value": result.summary,
                "description": result.text,
            }
            for result in results
        ],
    )
    if failed:
        get_run_logger().warning("Behaviour tests of %s failed: %s.", kind, ", ".join(failed))


@task(task_run_name="record gates of {version.name} version {version.version}")
def record_gates(platform: Platform, kind: KindName, version: ModelVersion, decision: Decision) -> None:
    """Show the gates of a version and store them in the registry. A failed behaviour gate sends an alert."""
    _show_gates(f"gates-{kind}", decision)
    platform.registry.record_gates(version.name, version.version, decision.to_json(), decision.lift)
    if decision.misbehaves:
        tests = "\n".join(f"{condition.name}: {condition.text}" for condition in decision.misbehaves)
        alerts.send(
            f"{endpoint_of(kind)}: a challenger fails behaviour tests",
            tests,
            str(runtime.flow_run.id),
            get_run_logger(),
        )


def _show_gates(key: str, decision: Decision) -> None:
    create_table_artifact(key=key, description=decision.text, table=decision.table)
