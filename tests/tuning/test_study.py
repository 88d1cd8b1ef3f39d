"""The tuning runs trials as jobs, continues after failed trials, and resumes after an interruption."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState, create_trial

from boat import kinds, snapshot
from boat.compute import JobResult, JobSpec
from boat.compute.local import LocalCompute
from boat.intent.parameters import IntentModel, IntentParameters
from boat.kinds import KindName
from boat.recommend.parameters import RecommendModel, RecommendParameters
from boat.tuning.space import defaults, space
from boat.tuning.study import STARTED_BY, Budget, TuningTask, best, tune

UNVARIED = ("co_occurrence", "popular")
QUICK = {"dimensions": 8, "learning_rate": 0.01, "scale": 14, "seed": 3, "max_seconds": 60}


class Watched(LocalCompute):
    """Run two jobs at the same time on this machine, count them, and let some of them time out."""

    def __init__(self, fails: Collection[int] = ()) -> None:
        super().__init__("local:?max_parallel=2")
        self.specs: list[JobSpec] = []
        self.at_once = 0
        self._running, self._fails = 0, fails

    def run(self, spec: JobSpec, on_line: Callable[[str], None], stop: threading.Event | None = None) -> JobResult:
        number = len(self.specs)
        self.specs.append(spec)
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        try:
            return super().run(replace(spec, timeout_seconds=0) if number in self._fails else spec, on_line, stop)
        finally:
            self._running -= 1


@pytest.fixture
def task(shop: Path, tmp_path: Path) -> Callable[..., TuningTask]:
    def make(**parameters: Any) -> TuningTask:
        digest = snapshot.read(shop).digest
        values = RecommendParameters(**parameters)
        return TuningTask("recommend", values, frozenset(parameters), str(shop), digest, str(tmp_path / "store"))

    return make


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


@pytest.mark.slow
def test_trials_run_in_parallel_and_a_failed_trial_does_not_stop_the_tuning(
    task: Callable[..., TuningTask],
) -> None:
    tuning, compute, changes = task(model="vmis_knn", seed=3), Watched(fails=[1]), []
    study = tune(compute, tuning, Budget(10, 3, "night 1"), lambda study: changes.append(states(study)))

    assert sorted(states(study)) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert compute.at_once == 2
    assert len(changes) == 3
    first = study.trials[0]
    assert first.params == defaults("recommend", tuning.space)  # the tuning is at least as good as none
    assert {trial.user_attrs[STARTED_BY] for trial in study.trials} == {"night 1"}
    assert first.user_attrs["job"]
    assert first.user_attrs["seconds"] > 0
    (failed,) = study.get_trials(states=[TrialState.FAIL])
    assert "longer than 0 s" in failed.user_attrs["error"]
    trial = best(study)
    assert trial is not None
    assert trial.value == max(trial.value for trial in study.trials if trial.value is not None)
    assert not list(Path(tuning.store).rglob("model.tar.gz"))

    # A later run for the same data gets the trials of the first run, and has its own budget.
    again = tune(compute, tuning, Budget(10, 1, "night 2"), lambda study: None)
    assert len(again.trials) == 4
    assert len(compute.specs) == 4
    assert again.trials[3].params not in [trial.params for trial in study.trials]
    assert len(tune(compute, tuning, Budget(10, 1, "night 2"), lambda study: None).trials) == 4


def test_a_tuning_stops_after_five_failed_trials_in_a_row(task: Callable[..., TuningTask]) -> None:
    compute = Watched(fails=range(100))
    study = tune(compute, task(model="vmis_knn"), Budget(10, 100, "night"), lambda study: None)
    assert set(states(study)) == {"FAIL"}
    assert 5 <= len(compute.specs) <= 6
    assert best(study) is None


_KILLED = """
import json, sys
from boat.compute.local import LocalCompute
from boat.tuning.study import Budget, TuningTask, tune
from boat.recommend.parameters import RecommendParameters
content = json.loads(sys.argv[1])
content |= {"parameters": RecommendParameters(**content["parameters"]), "fixed": frozenset(content["fixed"])}
tune(LocalCompute(), TuningTask(**content), Budget(10, 2, "killed"), lambda study: None)
"""


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_tuning_resumes_its_trial_from_the_checkpoint(task: Callable[..., TuningTask]) -> None:

    tuning = task(model="attention", **QUICK, window=5, epochs=60, patience=60)  # long enough to be killed
    killed = subprocess.Popen([sys.executable, "-c", _KILLED, json.dumps(asdict(tuning), default=sorted)])
    deadline = time.monotonic() + 120
    while not list(Path(tuning.store, "checkpoints").glob("*.npz")):  # wait for the first checkpoint
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    study = tune(compute := Watched(), tuning, Budget(10, 1, "after it"), lambda study: None)
    assert states(study)[0] == "FAIL"
    assert states(study)[-1] == "COMPLETE"
    interrupted, resumed = study.trials[0], study.trials[-1]
    assert resumed.params == interrupted.params
    assert len(compute.specs) == 1
    assert min(resumed.intermediate_values) > 1  # it resumed from the checkpoint after the first epoch


@pytest.mark.slow
def test_an_unpromising_trial_is_pruned(task: Callable[..., TuningTask]) -> None:
    tuning = task(model="attention", **QUICK, window=5, patience=20)
    assert not list(Path(tuning.store).rglob("study.db"))
    tune(Watched(), tuning, Budget(10, 0, "no trial"), lambda study: None)
    study = optuna.load_study(study_name=tuning.study, storage=f"sqlite:///{tuning.folder('study.db')}")
    for _ in range(3):  # better than any real trial
        study.add_trial(
            create_trial(
                value=2.0,
                params={"dropout": 0.1, "epochs": 9},
                distributions=dict(tuning.space),
                intermediate_values=dict.fromkeys(range(1, 10), 2.0),
            )
        )
    study = tune(compute := Watched(), tuning, Budget(10, 1, "tonight"), lambda study: None)
    (trial,) = study.get_trials(states=[TrialState.PRUNED])
    assert len(trial.intermediate_values) < trial.params["epochs"]
    assert not Path(compute.specs[0].outputs["output"]).exists()
    assert not Path(compute.specs[0].checkpoint).exists()


@pytest.mark.slow
def test_trials_are_stopped_at_the_end_of_the_time_and_resumed_by_the_next_run(
    task: Callable[..., TuningTask],
) -> None:
    tuning = task(model="vmis_knn")
    began = time.monotonic()
    stopped = tune(Watched(), tuning, Budget(1 / 60, 100, "short"), lambda study: None)
    assert time.monotonic() - began < 30
    assert set(states(stopped)) == {"RUNNING"}
    assert best(stopped) is None
    study = tune(Watched(), tuning, Budget(10, 1, "long"), lambda study: None)
    resumed = study.trials[len(stopped.trials)]
    assert resumed.state.name == "COMPLETE"
    assert resumed.params == study.trials[0].params == defaults("recommend", tuning.space)


@pytest.mark.parametrize(
    ("kind", "model"),
    [("recommend", model) for model in get_args(RecommendModel) if model not in UNVARIED]
    + [("intent", model) for model in get_args(IntentModel)],
)
def test_the_default_parameters_are_in_the_tuning_space(
    kind: KindName, model: str, recwarn: pytest.WarningsRecorder
) -> None:
    varied = space(kind, model)
    parameters = kinds.load(kind).parameters()
    assert varied
    study = optuna.create_study()
    study.enqueue_trial(defaults(kind, varied))
    assert study.ask(dict(varied)).params == {name: getattr(parameters, name) for name in varied}
    assert [str(warning.message) for warning in recwarn if "out of" in str(warning.message)] == []


def test_fixed_parameters_are_not_varied() -> None:
    assert "dropout" in space("recommend", "attention")
    assert "dropout" not in space("recommend", "attention", ["dropout"])
    assert space("recommend", "popular") == {}


def test_studies_have_the_same_name_for_the_same_data_and_parameters_only() -> None:
    values = RecommendParameters(model="vmis_knn", seed=1)
    tuning = TuningTask("recommend", values, frozenset({"seed"}), "/snapshots/1", "ab12", "/store")
    assert tuning.study == replace(tuning, snapshot="/cache/1").study
    assert tuning.study.startswith("recommend-vmis_knn-")
    names = {
        replace(tuning, digest="cd34").study,
        replace(tuning, parameters=replace(values, seed=2)).study,
        replace(tuning, fixed=frozenset({"seed", "sample"})).study,
        replace(tuning, kind="intent", parameters=IntentParameters()).study,
    }
    assert len(names - {tuning.study}) == 4
