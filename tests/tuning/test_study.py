"""The search: trials are real jobs; what fails or gets nowhere does not stop it; and it can be gone on with."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState, create_trial

from boat import kinds, snapshot
from boat.compute import JobResult, JobSpec
from boat.compute.local import LocalCompute
from boat.intent.parameters import IntentModel
from boat.kinds import KindName
from boat.recommend.parameters import RecommendModel
from boat.tuning.space import defaults, space
from boat.tuning.study import STARTED_BY, Budget, Subject, best, search

UNVARIED = ("co_occurrence", "popular")
QUICK = {"dimensions": 8, "learning_rate": 0.01, "scale": 14, "seed": 3, "max_seconds": 60}


class Watched(LocalCompute):
    """This machine, with room for two; keeps count of jobs, and some of them have no time to run."""

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
def subject(shop: Path, tmp_path: Path) -> Callable[..., Subject]:
    def make(model: str, **told: object) -> Subject:
        digest = snapshot.read(shop).digest
        return Subject("recommend", {"model": model, **told}, str(shop), digest, str(tmp_path / "store"))

    return make


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


@pytest.mark.slow
def test_trials_run_side_by_side_and_one_that_fails_does_not_fail_the_search(
    subject: Callable[..., Subject],
) -> None:
    wanted, place, seen = subject("vmis_knn", seed=3), Watched(fails=[1]), []
    study = search(place, wanted, Budget(10, 3, "night 1"), lambda study: seen.append(states(study)))

    assert sorted(states(study)) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert place.at_once == 2
    assert len(seen) == 3
    first = study.trials[0]
    assert first.params == defaults("recommend", wanted.space)  # what it would be without a search
    assert {trial.user_attrs[STARTED_BY] for trial in study.trials} == {"night 1"}
    assert first.user_attrs["job"]
    assert first.user_attrs["seconds"] > 0
    (failed,) = study.get_trials(states=[TrialState.FAIL])
    assert "longer than 0 s" in failed.user_attrs["why"]
    found = best(study)
    assert found is not None
    assert found.value == max(trial.value for trial in study.trials if trial.value is not None)
    assert not list(Path(wanted.store).rglob("model.tar.gz"))

    # Whoever asks for the same later has what is there already, and a budget of his own.
    again = search(place, wanted, Budget(10, 1, "night 2"), lambda study: None)
    assert len(again.trials) == 4
    assert len(place.specs) == 4
    assert again.trials[3].params not in [trial.params for trial in study.trials]
    assert len(search(place, wanted, Budget(10, 1, "night 2"), lambda study: None).trials) == 4


def test_a_search_whose_trials_only_fail_gives_up_before_long(subject: Callable[..., Subject]) -> None:
    place = Watched(fails=range(100))
    study = search(place, subject("vmis_knn"), Budget(10, 100, "night"), lambda study: None)
    assert set(states(study)) == {"FAIL"}
    assert 5 <= len(place.specs) <= 6
    assert best(study) is None


_KILLED = """
import json, sys
from boat.compute.local import LocalCompute
from boat.tuning.study import Budget, Subject, search
search(LocalCompute(), Subject(**json.loads(sys.argv[1])), Budget(10, 2, "killed"), lambda study: None)
"""


@pytest.mark.slow
@pytest.mark.faults
def test_a_search_that_was_killed_is_gone_on_with_where_it_was(subject: Callable[..., Subject]) -> None:

    wanted = subject("attention", **QUICK, window=5)
    killed = subprocess.Popen([sys.executable, "-c", _KILLED, json.dumps(asdict(wanted))])
    deadline = time.monotonic() + 120
    while not list(Path(wanted.store, "checkpoints").glob("*.npz")):  # a trial is between two epochs
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    study = search(place := Watched(), wanted, Budget(10, 1, "after it"), lambda study: None)
    assert states(study)[0] == "FAIL"
    assert states(study)[-1] == "COMPLETE"
    left, taken_up = study.trials[0], study.trials[-1]
    assert taken_up.params == left.params
    assert len(place.specs) == 1
    assert min(taken_up.intermediate_values) > 1  # from the checkpoint: its first epoch was not run again


@pytest.mark.slow
def test_a_hopeless_trial_is_ended_before_its_end(subject: Callable[..., Subject]) -> None:
    wanted = subject("attention", **QUICK, window=5, patience=20)
    assert not list(Path(wanted.store).rglob("study.db"))
    search(Watched(), wanted, Budget(10, 0, "nobody"), lambda study: None)
    study = optuna.load_study(study_name=wanted.study, storage=f"sqlite:///{wanted.folder('study.db')}")
    for _ in range(3):  # better than any can be
        study.add_trial(
            create_trial(
                value=2.0,
                params={"dropout": 0.1, "epochs": 9},
                distributions=dict(wanted.space),
                intermediate_values=dict.fromkeys(range(1, 10), 2.0),
            )
        )
    study = search(place := Watched(), wanted, Budget(10, 1, "tonight"), lambda study: None)
    tried = study.get_trials(states=[TrialState.PRUNED])
    assert len(tried) == 1
    assert len(tried[0].intermediate_values) < tried[0].params["epochs"]
    assert not Path(place.specs[0].outputs["output"]).exists()
    assert not Path(place.specs[0].checkpoint).exists()


@pytest.mark.slow
def test_when_the_time_is_over_what_runs_is_stopped_and_the_next_search_takes_it_up(
    subject: Callable[..., Subject],
) -> None:
    wanted = subject("vmis_knn")
    began = time.monotonic()
    study = search(Watched(), wanted, Budget(1 / 60, 100, "short"), lambda study: None)
    assert time.monotonic() - began < 30
    assert states(study) == ["RUNNING", "RUNNING"]
    assert best(study) is None
    study = search(Watched(), wanted, Budget(10, 1, "long"), lambda study: None)
    assert states(study)[2] == "COMPLETE"
    assert study.trials[2].params == study.trials[0].params == defaults("recommend", wanted.space)


@pytest.mark.parametrize(
    ("kind", "model"),
    [("recommend", model) for model in get_args(RecommendModel) if model not in UNVARIED]
    + [("intent", model) for model in get_args(IntentModel)],
)
def test_the_defaults_lie_in_the_space_that_is_searched(
    kind: KindName, model: str, recwarn: pytest.WarningsRecorder
) -> None:
    varied = space(kind, model)
    usual = kinds.load(kind).parameters()
    assert varied
    study = optuna.create_study()
    study.enqueue_trial(defaults(kind, varied))
    tried = study.ask(dict(varied)).params
    assert tried == {name: getattr(usual, name) for name in varied}
    assert [str(each.message) for each in recwarn if "out of" in str(each.message)] == []


def test_what_is_told_is_not_varied() -> None:
    assert "dropout" in space("recommend", "attention")
    assert "dropout" not in space("recommend", "attention", ["dropout"])
    assert space("recommend", "popular") == {}


def test_the_same_question_has_the_same_study_and_another_one_another() -> None:
    asked = Subject("recommend", {"model": "vmis_knn", "seed": 1}, "/snapshots/1", "ab12", "/store")
    moved = replace(asked, snapshot="/cache/1")
    assert asked.study == moved.study
    assert asked.study.startswith("recommend-vmis_knn-")
    others = [
        replace(asked, digest="cd34"),
        replace(asked, told={**asked.told, "seed": 2}),
        replace(asked, kind="intent"),
    ]
    assert asked.study not in {other.study for other in others}
