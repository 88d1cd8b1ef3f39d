"""The completed tasks of a flow run, for a model card."""

from prefect import get_client, runtime
from prefect.client.schemas import TaskRun
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import TaskRunSort

from boat.transform.lineage import Graph, Node
from tasks import measured


def completed_steps() -> Graph:
    """Return the completed tasks of this flow run. A task's parents are the tasks whose results it used."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[runtime.flow_run.id])),
            sort=TaskRunSort.END_TIME_DESC,
        )
    return {str(run.id): _node(run) for run in reversed(runs) if run.state and run.state.is_completed()}


def _node(run: TaskRun) -> Node:
    parents = [
        str(source.id) for inputs in run.task_inputs.values() for source in inputs if source.input_type == "task_run"
    ]
    usage = measured.usages().get(run.name)
    cost = usage.text if usage else f"{run.total_run_time.total_seconds():.0f} s"
    return Node(f"{run.name}: {cost}", "step", tuple(dict.fromkeys(parents)))
