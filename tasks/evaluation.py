"""Figures on the test days and the gate. Without Prefect: `python -m boat.evaluation.evaluate --help`."""

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
def evaluate_model(
    platform: Platform, kind: KindName, model_uri: str, snapshot_uri: str, *, needs_champion: bool = True
) -> Evaluation:
    """Score an exported model on the test days, beside the present champion and the baselines.

    A model that was held against this champion before is not scored again.

    Args:
        platform: Where model, snapshot and registry are.
        kind: Of the model.
        model_uri: Its `model.tar.gz`.
        snapshot_uri: Whose test days.
        needs_champion: Whether it fails where the registry does not answer, and so knows no champion.
    """
    try:
        champion = platform.registry.by_alias(endpoint_of(kind), "champion")
    except RegistryUnreachableError as error:
        if needs_champion:
            raise
        get_run_logger().warning("%s The %s model is measured beside the baselines alone.", error, kind)
        champion = None
    version = champion.version if champion else ""
    output = store.join(model_uri.rsplit("/", 1)[0], f"evaluation-against-{version or 'nobody'}.json")
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
        description=f"{len(results)} tests of behaviour, failed: {', '.join(failed) or 'none'}",
        table=[
            {
                "test": result.name.replace("_", " "),
                "severity": result.severity,
                "passed": "yes" if result.passed else "NO",
                "value": result.summary,
                "what it asks": result.text,
            }
            for result in results
        ],
    )
    if failed:
        get_run_logger().warning("Behaviour of %s: %s failed.", kind, ", ".join(failed))


@task(task_run_name="check gates of {kind}")
def check_gates(kind: KindName, evaluation: Evaluation) -> Decision:
    """Hold the challenger to the gates and show them; a model that misbehaves is worth an alert."""
    decision = gate.decide(kind, evaluation.report)
    create_table_artifact(
        key=f"gates-{kind}",
        description=decision.text,
        table=[
            {"gate": each.name, "passed": "yes" if each.passed else "NO", "what it says": each.text}
            for each in decision.gates
        ],
    )
    if decision.misbehaves:
        tests = "\n".join(f"{each.name}: {each.text}" for each in decision.misbehaves)
        alerts.send(f"{endpoint_of(kind)}: a challenger misbehaves", tests, str(runtime.flow_run.id), get_run_logger())
    return decision
