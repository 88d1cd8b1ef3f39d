"""The retry policy retries temporary errors only."""

import pytest
from prefect import flow, task

from boat import kinds
from boat.errors import CheckError, DataError
from tasks.blocks import GatePolicy, RetryPolicy

pytestmark = pytest.mark.usefixtures("prefect_server")


def tries_of(error: Exception, succeeds_at: int) -> int:
    """Return the number of tries of a task that raises `error` until try number `succeeds_at`."""
    tries = 0

    @task(task_run_name="attempt")
    def attempt() -> None:
        nonlocal tries
        tries += 1
        if tries < succeeds_at:
            raise error

    @flow
    def trying() -> None:
        RetryPolicy(retries=1, delay_seconds=1, jitter=0.5).apply(attempt)()

    trying(return_state=True)
    return tries


@pytest.mark.parametrize("error", [OSError("connection reset"), CheckError("the warehouse does not answer")])
def test_a_temporary_error_is_retried(error: Exception) -> None:
    assert tries_of(error, succeeds_at=2) == 2


def test_wrong_data_is_not_retried() -> None:
    assert tries_of(DataError("hour.csv:3: no time"), succeeds_at=2) == 1


def test_the_policy_preserves_the_run_name_of_a_task() -> None:
    @task(task_run_name="load {table}")
    def load(table: str) -> None: ...

    assert RetryPolicy().apply(load).task_run_name == "load {table}"


def test_the_policy_of_a_kind_is_its_block_or_the_default() -> None:
    assert GatePolicy.load_for("intent").gates("intent") == kinds.load("intent").gates
    GatePolicy(margin=0.2, minimum_buyers=5, untested="refuse").save("intent", overwrite=True)
    changed = GatePolicy.load_for("intent").gates("intent")
    assert (changed.margin, changed.minimum_buyers, changed.untested) == (0.2, 5, "refuse")
    assert (changed.metric, changed.baselines) == ("pr_auc", ("base_rate", "logistic"))
    assert GatePolicy.load_for("recommend").gates("recommend") == kinds.load("recommend").gates


@pytest.mark.parametrize("wrong", [{"mode": "sometimes"}, {"margin": -0.1}, {"lift_margin": 1.0}, {"approval_days": 0}])
def test_a_wrong_policy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GatePolicy(**wrong)
