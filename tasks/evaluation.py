"""Figures on the test days and the gate. Without Prefect: `python -m boat.evaluation.evaluate --help`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_table_artifact

from boat import store
from boat.compute import JobSpec
from boat.evaluation import gate
from boat.evaluation.gate import Decision
from boat.models.archive import Kind
from boat.settings import ENDPOINT_OF
from tasks.blocks import Platform
from tasks.jobs import run_job


@dataclass(frozen=True)
class Evaluation:
    """Figures of a challenger beside champion and baselines, all on the same test days.

    Attributes:
        uri: The JSON file that the job wrote.
        figures: Its content: figures by model; `champion` is None where there is none.
        champion: Version of the champion it was held against; empty where there is none.
    """

    uri: str
    figures: Mapping[str, Any]
    champion: str

    @property
    def challenger(self) -> Mapping[str, float]:
        """The challenger's own figures that are plain numbers."""
        return {
            name: float(value) for name, value in self.figures["challenger"].items() if isinstance(value, int | float)
        }


@task(task_run_name="evaluate {kind}")
def evaluate_model(platform: Platform, kind: Kind, model_uri: str, snapshot_uri: str) -> Evaluation:
    """Score an exported model on the test days, beside the present champion and the baselines.

    A model that was held against this champion before is not scored again.
    """
    champion = platform.registry.by_alias(ENDPOINT_OF[kind], "champion")
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
    return Evaluation(output, json.loads(store.read_text(output)), version)


@task(task_run_name="judge {kind}")
def judge(kind: Kind, evaluation: Evaluation) -> Decision:
    """Hold the challenger to the gates and show them."""
    decision = gate.decide(kind, evaluation.figures)
    create_table_artifact(
        key=f"gates-{kind}",
        description=decision.text,
        table=[
            {"gate": each.name, "passed": "yes" if each.passed else "NO", "what it says": each.text}
            for each in decision.gates
        ],
    )
    return decision
