"""Evaluation on the test days, and gates. Without Prefect: `python -m boat.evaluation.evaluate --help`."""

from dataclasses import dataclass

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact

from boat import store
from boat.compute import JobSpec
from boat.errors import RegistryUnreachableError
from boat.evaluation import gate
from boat.evaluation.gate import Decision
from boat.evaluation.report import EvaluationReport
from boat.kinds import KindName, endpoint_of
from tasks import alerts
from tasks.blocks import Platform
from tasks.jobs import run_job
from tasks.measured import measured


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a challenger.

    Attributes:
        uri: JSON file of the report.
        report: Metrics of challenger, champion and baselines on the same test days.
        champion: Version of the champion; empty before the first promotion.
    """

    uri: str
    report: EvaluationReport
    champion: str


@task(task_run_name="evaluate {kind}")
@measured
def evaluate_model(
    platform: Platform, kind: KindName, model_uri: str, snapshot_uri: str, *, needs_champion: bool = True
) -> Evaluation:
    """Evaluate a model on the test days, and compare it with the champion and the baselines.

    A model is evaluated once against each champion.

    Args:
        platform: Installation with model, snapshot and registry.
        kind: Kind of the model.
        model_uri: Its `model.tar.gz`.
        snapshot_uri: The snapshot with the test days.
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
    evaluation = Evaluation(output, EvaluationReport.from_json(store.read_text(output), output), version)
    _show_behaviour(kind, evaluation)
    return evaluation


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
    decision = gate.decide(kind, evaluation.report)
    create_table_artifact(
        key=f"gates-{kind}",
        description=decision.text,
        table=[
            {"gate": condition.name, "passed": "yes" if condition.passed else "NO", "description": condition.text}
            for condition in decision.gates
        ],
    )
    if decision.misbehaves:
        tests = "\n".join(f"{condition.name}: {condition.text}" for condition in decision.misbehaves)
        alerts.send(
            f"{endpoint_of(kind)}: a challenger fails behaviour tests",
            tests,
            str(runtime.flow_run.id),
            get_run_logger(),
        )
    return decision
