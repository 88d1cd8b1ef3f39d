"""A tuning with the store on S3 and parallel trials on Batch, which another machine continues."""

from collections.abc import Callable
from pathlib import Path

import pytest

from boat import compute, snapshot, store
from boat.recommend.parameters import RecommendParameters
from boat.tuning.study import Budget, TuningTask, best, tune
from tests.cloud.batch.running import Cloud

pytestmark = [pytest.mark.cloud, pytest.mark.soak]


def test_trials_run_on_batch_and_the_study_is_in_the_bucket(cloud: Cloud, shop_snapshot: Callable[..., Path]) -> None:
    folder = shop_snapshot()
    uri = store.publish(folder, store.join(cloud.store, "snapshots", "shop"))
    parameters = RecommendParameters(model="vmis_knn")
    task = TuningTask("recommend", parameters, frozenset(), uri, snapshot.read(folder).digest, cloud.store)
    batch = compute.connect(cloud.batch(max_parallel=2, price=0.5))
    earlier_jobs = len(cloud.emulator.jobs)

    first = tune(batch, task, Budget(10, 2, "night 1"), lambda study: None)
    assert [trial.state.name for trial in first.trials] == ["COMPLETE", "COMPLETE"]
    assert all(trial.user_attrs["dollars"] > 0 for trial in first.trials)
    assert store.exists(task.folder("study.db"))

    second = tune(batch, task, Budget(10, 1, "night 2"), lambda study: None)
    assert [trial.params for trial in second.trials[:2]] == [trial.params for trial in first.trials]
    assert len(second.trials) == 3
    assert len(cloud.emulator.jobs) == earlier_jobs + 3
    assert best(second) is not None
    assert cloud.emulator.active() == []
