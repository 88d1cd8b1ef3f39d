"""The retry policy retries temporary errors only."""

import pytest
from prefect import flow, task

from boat.errors import CheckError, DataError
from tasks.blocks import RetryPolicy

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
