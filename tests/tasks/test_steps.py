"""`completed_steps` returns the steps of a running flow with their dependencies."""

from dataclasses import dataclass

import pytest
from prefect import flow, task

from boat.transform.lineage import Graph
from tasks.steps import completed_steps

pytestmark = pytest.mark.usefixtures("prefect_server")


@dataclass(frozen=True)
class Rows:
    rows: int


def test_a_step_follows_the_steps_whose_results_it_uses() -> None:
    @task(task_run_name="check")
    def check() -> None:
        pass

    @task(task_run_name="snapshot")
    def snapshot() -> Rows:
        return Rows(3)

    @task(task_run_name="train {kind}")
    def train(snapshot: Rows, kind: str) -> Rows:
        return Rows(snapshot.rows)

    @task(task_run_name="card")
    def card(trained: Rows) -> Graph:
        return completed_steps()

    @flow
    def retrain() -> Graph:
        check()
        return card(train(snapshot(), "recommend"))

    steps = retrain()
    labels = {node.label.split(":")[0]: name for name, node in steps.items()}
    assert list(labels) == ["check", "snapshot", "train recommend"]  # the task that renders the card is still running
    assert steps[labels["train recommend"]].parents == (labels["snapshot"],)
    assert steps[labels["check"]].parents == steps[labels["snapshot"]].parents == ()
