"""The search for better parameters: trials are training jobs at the compute seam, and the validation figure decides.

The study (Optuna's, in a SQLite file) and what its trials left lie in the artifact store under a name that is made of
what is searched for. So a search that was killed is gone on with by whoever asks for the same next: trials that had
ended are not run again, and one that was under way goes on from its checkpoint. One process writes the study; its
trials are jobs that know nothing of it. `optuna-dashboard` can read the file.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

import optuna
from optuna import Study, Trial
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from boat import kinds, store
from boat.compute import Compute, JobSpec, progress
from boat.errors import BoatError, JobStoppedError
from boat.kinds import KindName
from boat.tuning.space import Distributions, defaults, space
from boat.version import code_version

STARTED_BY = "started_by"
"""Attribute of a trial: the run that asked for it, and whose budget it took."""

_LOOK_SECONDS = 0.5
_RANDOM_TRIALS = 5  # before earlier ones say where to look
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 3, 2  # there must be something to compare with
_FAILURES = 5  # in a row: parameters are not what is wrong
_UNTRAINED_SECONDS = 1800  # of a job, for all but the training itself


@dataclass(frozen=True)
class Subject:
    """What better parameters are searched for.

    Attributes:
        kind: Of the model.
        told: What all trainings are told, such as model, seed and seconds. Not varied.
        snapshot: Folder of the snapshot.
        digest: Of the snapshot's content.
        store: Artifact store.
    """

    kind: KindName
    told: Mapping[str, Any]
    snapshot: str
    digest: str
    store: str

    @cached_property
    def study(self) -> str:
        """Name of the study: the same data, code and conditions have the same."""
        model = self.told.get("model", "")
        about = json.dumps([self.digest, code_version(), self.told], sort_keys=True)
        return "-".join(filter(None, [self.kind, model, sha256(about.encode()).hexdigest()[:12]]))

    @property
    def space(self) -> Distributions:
        """What is varied."""
        return space(self.kind, self.told.get("model", kinds.load(self.kind).parameters().model), self.told)

    @property
    def figure(self) -> str:
        """Name of the figure that decides."""
        return kinds.load(self.kind).tuning_metric

    def folder(self, *parts: str) -> str:
        """Where the search keeps its things."""
        return store.join(self.store, "searches", self.study, *parts)

    def job(self, varied: Mapping[str, Any]) -> JobSpec:
        """The training of a trial. The same parameters make the same job, which is found where it was left."""
        parameters = {**self.told, **varied, **kinds.load(self.kind).trial_parameters}
        key = sha256(json.dumps(varied, sort_keys=True).encode()).hexdigest()[:16]
        return JobSpec(
            name=f"trial of {self.study}",
            module="boat.models.train",
            arguments={"kind": self.kind, "parameters": json.dumps(parameters), "export": "no"},
            timeout_seconds=_UNTRAINED_SECONDS + int(parameters.get("max_seconds", 0)),
            inputs={"snapshot": self.snapshot},
            outputs={"output": self.folder(key)},
            checkpoint=store.join(self.store, "checkpoints", f"{self.study}-{key}.npz"),
            store=self.store,
            key=f"{self.study} {key}",
        )


@dataclass(frozen=True)
class Budget:
    """How long a run may search.

    Attributes:
        minutes: Since its first trial began. What is under way then is stopped, and the next search takes it up.
        trials: How many it may start.
        run: Whose budget it is: a second attempt of the same run has what the first one left.
    """

    minutes: float
    trials: int
    run: str


class _Outcome(NamedTuple):
    state: TrialState  # RUNNING: stopped before its end, and there to be taken up
    value: float | None = None
    said: Mapping[str, Any] = {}


class _HopelessError(Exception):
    """A trial's figures say that it will not get anywhere."""


def search(place: Compute, subject: Subject, budget: Budget, on_change: Callable[[Study], None]) -> Study:
    """Search until the budget is used up, as many trials at once as the place has room for.

    The first trial has the default parameters, so the best one is at least as good. A trial that fails, or gets
    nowhere, is no failure of the search; after five failures in a row it begins no more.

    Args:
        place: Where trials run.
        subject: What is searched for. Its model has something to vary.
        budget: How long.
        on_change: Called with the study after each trial.

    Returns:
        The study as it is now, with what earlier searches for the same have tried; whatever is done to it is not kept.
    """
    with _kept(subject) as (study, keep):
        _take_up(study, subject)
        trials, left = _Trials(place, subject, study), _Left.of(budget, study)
        with ThreadPoolExecutor(place.max_parallel, "trial") as pool:
            try:
                running: dict[Future[_Outcome], Trial] = {}
                while True:
                    while len(running) < place.max_parallel and left.trials > 0 and time.monotonic() < left.until:
                        left.trials -= 1
                        trial = trials.start(budget.run)
                        running[pool.submit(trials.run, trial)] = trial
                    if not running:
                        return _in_memory(study)
                    done, _ = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        left.count(outcome.state)
                        trials.end(running.pop(future), outcome)
                        with trials.lock:
                            keep()
                        on_change(study)
                    if time.monotonic() > left.until:
                        trials.stop.set()
            except BaseException:
                trials.stop.set()  # whom an interruption does not reach
                raise


def best(study: Study) -> FrozenTrial | None:
    """The trial with the best validation figure; None where none was trained to its end."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return study.best_trial if complete else None


@dataclass
class _Left:
    """What a run may still take."""

    trials: int
    until: float
    failed: int = 0  # in a row

    def count(self, state: TrialState) -> None:
        """Begin no more trials where they only fail: the reason lies elsewhere."""
        self.failed = self.failed + 1 if state == TrialState.FAIL else 0
        if self.failed == _FAILURES:
            self.trials = 0

    @classmethod
    def of(cls, budget: Budget, study: Study) -> "_Left":
        known = study.get_trials(deepcopy=False)
        began = [trial.datetime_start for trial in known if trial.user_attrs.get(STARTED_BY) == budget.run]
        gone = (datetime.now() - min(filter(None, began), default=datetime.now())).total_seconds()
        return cls(budget.trials - len(began), time.monotonic() + 60 * budget.minutes - gone)


@dataclass
class _Trials:
    """The trials of one search, which run in threads of their own."""

    place: Compute
    subject: Subject
    study: Study
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)  # SQLite has room for one writer

    def start(self, run: str) -> Trial:
        with self.lock:
            trial = self.study.ask(dict(self.subject.space))
            trial.set_user_attr(STARTED_BY, run)
            return trial

    def run(self, trial: Trial) -> _Outcome:
        """Train, unless a job with these parameters has ended before."""
        spec = self.subject.job(trial.params)
        figures, said = store.join(spec.outputs["output"], "metrics.json"), {}
        try:
            if not store.exists(figures):
                result = self.place.run(spec, self._watch(trial), self.stop)
                said = {"job": result.job, "seconds": result.seconds, "dollars": result.dollars}
            value = float(json.loads(store.read_text(figures))[self.subject.figure])
        except _HopelessError:
            store.remove(spec.checkpoint)
            return _Outcome(TrialState.PRUNED)
        except JobStoppedError:
            return _Outcome(TrialState.RUNNING)
        except BoatError as error:
            store.remove(spec.checkpoint)
            return _Outcome(TrialState.FAIL, said={"why": str(error)})
        if not math.isfinite(value):
            return _Outcome(TrialState.FAIL, said={"why": f"{self.subject.figure} is {value}."})
        return _Outcome(TrialState.COMPLETE, value, said)

    def end(self, trial: Trial, outcome: _Outcome) -> None:
        if outcome.state == TrialState.RUNNING:
            return
        with self.lock:
            for name, value in outcome.said.items():
                trial.set_user_attr(name, value)
            # Another run may have taken the trial for one that was left behind.
            self.study.tell(trial, outcome.value, state=outcome.state, skip_if_finished=True)

    def _watch(self, trial: Trial) -> Callable[[str], None]:
        seen: set[int] = set()

        def on_line(line: str) -> None:
            epoch = progress.parse(line)
            if epoch is None or epoch["epoch"] in seen or self.subject.figure not in epoch:
                return  # a new host may repeat the last one; not every model has this figure before its end
            seen.add(epoch["epoch"])
            with self.lock:
                trial.report(epoch[self.subject.figure], epoch["epoch"])
                hopeless = trial.should_prune()
            if hopeless:
                raise _HopelessError

        return on_line


@contextmanager
def _kept(subject: Subject) -> Iterator[tuple[Study, Callable[[], None]]]:
    """The study, and what puts it into a store elsewhere as it is then."""
    uri = subject.folder("study.db")
    with tempfile.TemporaryDirectory(prefix="boat-search-") as folder:
        path = Path(folder) / "study.db" if store.is_remote(uri) else Path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        if store.is_remote(uri) and store.exists(uri):
            shutil.copyfile(store.fetch(uri, Path(folder) / "fetched"), path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = RDBStorage(f"sqlite:///{path}")

        def keep() -> None:
            store.publish(path, uri)

        try:
            yield _study(subject, storage), keep
        finally:
            storage.engine.dispose()


def _in_memory(study: Study) -> Study:
    """The same, for when its file is closed."""
    copied = optuna.create_study(study_name=study.study_name, direction=study.direction)
    copied.add_trials(study.get_trials())
    return copied


def _study(subject: Subject, storage: RDBStorage) -> Study:
    study = optuna.create_study(
        storage=storage,
        study_name=subject.study,
        direction=kinds.load(subject.kind).tuning_direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
    )
    study.sampler = optuna.samplers.TPESampler(
        # Not the same draws again where a search is gone on with.
        seed=int(subject.told.get("seed", 0)) + len(study.get_trials(deepcopy=False)),
        n_startup_trials=_RANDOM_TRIALS,
        multivariate=True,
        constant_liar=True,  # trials that run at the same time shall not all try the same
    )
    return study


def _take_up(study: Study, subject: Subject) -> None:
    """Put what an earlier run left under way first in line, and the defaults where they have not been tried."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        study.enqueue_trial(trial.params)
    study.enqueue_trial(defaults(subject.kind, subject.space), skip_if_exists=True)
