"""The tuning of training parameters. Each trial is a training job, and the validation metric decides.

The study (an Optuna study in a SQLite file) and the results of its trials are in the artifact store. The name of a
study is a digest of data, code and parameters. A run with the same name continues the study: it does not repeat
complete trials, and an interrupted trial resumes from its checkpoint. Only the tuning process writes the study, not the
jobs. `optuna-dashboard` can read the file.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
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
from boat.kinds import KindName, TrainingParameters
from boat.tuning.space import Distributions, defaults, space
from boat.version import code_version

STARTED_BY = "started_by"
"""Attribute of a trial: the run that started it from its budget."""

_POLL_SECONDS = 0.5
_RANDOM_TRIALS = 5  # before the sampler uses results
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 3, 2  # pruning needs results to compare with
_MAX_FAILURES = 5  # in a row: the cause is not the parameters
_OVERHEAD_SECONDS = 1800  # of a job, without the training itself


@dataclass(frozen=True)
class TuningTask:
    """The training whose parameters are tuned.

    Attributes:
        kind: Kind of the model.
        parameters: Parameters of all trials. The varied parameters are replaced.
        fixed: Names of the parameters that are not varied.
        snapshot: Folder of the snapshot.
        digest: Digest of the snapshot.
        store: Artifact store.
    """

    kind: KindName
    parameters: TrainingParameters
    fixed: frozenset[str]
    snapshot: str
    digest: str
    store: str

    @cached_property
    def study(self) -> str:
        """Return the name of the study. The same data, code and parameters have the same name."""
        parameters = {**asdict(self.parameters), "fixed": sorted(self.fixed)}
        content = json.dumps([self.digest, code_version(), parameters], sort_keys=True)
        return f"{self.kind}-{self.parameters.model}-{sha256(content.encode()).hexdigest()[:12]}"

    @property
    def space(self) -> Distributions:
        """Return the distributions of the varied parameters."""
        return space(self.kind, self.parameters.model, self.fixed)

    @property
    def metric(self) -> str:
        """Return the validation metric that decides."""
        return kinds.load(self.kind).tuning_metric

    def folder(self, *parts: str) -> str:
        """Return the location of the study and its trials in the artifact store."""
        return store.join(self.store, "tuning", self.study, *parts)

    def job(self, varied: Mapping[str, Any]) -> JobSpec:
        """Return the training job of a trial. The same parameters give the same job key, so that a job can resume."""
        parameters = replace(self.parameters, **{**varied, **kinds.load(self.kind).trial_parameters})
        key = sha256(json.dumps(varied, sort_keys=True).encode()).hexdigest()[:16]
        return JobSpec(
            name=f"trial of {self.study}",
            module="boat.models.train",
            arguments={"kind": self.kind, "parameters": json.dumps(asdict(parameters)), "export": "no"},
            timeout_seconds=_OVERHEAD_SECONDS + int(parameters.max_seconds),
            inputs={"snapshot": self.snapshot},
            outputs={"output": self.folder(key)},
            checkpoint=store.join(self.store, "checkpoints", f"{self.study}-{key}.npz"),
            store=self.store,
            key=f"{self.study} {key}",
        )


@dataclass(frozen=True)
class Budget:
    """The limits of a tuning.

    Attributes:
        minutes: Time since the run's first trial. Trials that are running then are stopped; a later run resumes them.
        trials: Number of trials that the run may start.
        run: The run that owns the budget. A second attempt of the run continues with the rest of it.
    """

    minutes: float
    trials: int
    run: str


class _Outcome(NamedTuple):
    state: TrialState  # RUNNING: stopped before its end; a later run resumes it
    value: float | None = None
    attributes: Mapping[str, Any] = {}


class _PrunedError(Exception):
    """A trial's metrics are too low to continue it."""


def tune(compute: Compute, task: TuningTask, budget: Budget, on_change: Callable[[Study], None]) -> Study:
    """Run trials until the budget is used up, as many at once as the compute back end allows.

    The first trial has the default parameters, so the best trial is at least as good. Failed and pruned trials do not
    stop the tuning, but after five failures in a row no new trial starts.

    Args:
        compute: The back end that runs the trials.
        task: The training to tune. Its model must have parameters that can be varied.
        budget: Limits of time and trials.
        on_change: Called with the study after each trial.

    Returns:
        A copy of the study in memory, with the trials of earlier runs.
    """
    with _open_study(task) as (study, save):
        _enqueue(study, task)
        trials, budget_left = _Trials(compute, task, study), _BudgetLeft.of(budget, study)
        with ThreadPoolExecutor(compute.max_parallel, "trial") as pool:
            try:
                running: dict[Future[_Outcome], Trial] = {}
                while True:
                    while len(running) < compute.max_parallel and budget_left.allows_a_trial():
                        budget_left.trials -= 1
                        trial = trials.start(budget.run)
                        running[pool.submit(trials.run, trial)] = trial
                    if not running:
                        return _in_memory(study)
                    done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        outcome = future.result()
                        budget_left.count(outcome.state)
                        trials.end(running.pop(future), outcome)
                        with trials.lock:
                            save()
                        on_change(study)
                    if time.monotonic() > budget_left.until:
                        trials.stop.set()
            except BaseException:
                trials.stop.set()  # the threads of the pool do not get the interruption
                raise


def best(study: Study) -> FrozenTrial | None:
    """Return the trial with the best validation metric; None if no trial is complete."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return study.best_trial if complete else None


@dataclass
class _BudgetLeft:
    """The rest of a budget.

    Attributes:
        trials: Trials that may start.
        until: End of the time, on the monotonic clock.
        failures: Failed trials in a row.
    """

    trials: int
    until: float
    failures: int = 0

    def allows_a_trial(self) -> bool:
        return self.trials > 0 and time.monotonic() < self.until

    def count(self, state: TrialState) -> None:
        """Start no more trials after five failures in a row: the cause is not the parameters."""
        self.failures = self.failures + 1 if state == TrialState.FAIL else 0
        if self.failures == _MAX_FAILURES:
            self.trials = 0

    @classmethod
    def of(cls, budget: Budget, study: Study) -> "_BudgetLeft":
        trials = study.get_trials(deepcopy=False)
        began = [trial.datetime_start for trial in trials if trial.user_attrs.get(STARTED_BY) == budget.run]
        used = (datetime.now() - min(filter(None, began), default=datetime.now())).total_seconds()
        return cls(budget.trials - len(began), time.monotonic() + 60 * budget.minutes - used)


@dataclass
class _Trials:
    """The trials of one tuning. Each runs in a thread."""

    compute: Compute
    task: TuningTask
    study: Study
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)  # SQLite allows one writer

    def start(self, run: str) -> Trial:
        with self.lock:
            trial = self.study.ask(dict(self.task.space))
            trial.set_user_attr(STARTED_BY, run)
            return trial

    def run(self, trial: Trial) -> _Outcome:
        """Train, unless an earlier job with the same parameters is complete."""
        spec = self.task.job(trial.params)
        metrics, attributes = store.join(spec.outputs["output"], "metrics.json"), {}
        try:
            if not store.exists(metrics):
                result = self.compute.run(spec, self._watch(trial), self.stop)
                attributes = {"job": result.job, "seconds": result.seconds, "dollars": result.dollars}
            value = float(json.loads(store.read_text(metrics))[self.task.metric])
        except _PrunedError:
            store.remove(spec.checkpoint)
            return _Outcome(TrialState.PRUNED)
        except JobStoppedError:
            return _Outcome(TrialState.RUNNING)
        except BoatError as error:
            store.remove(spec.checkpoint)
            return _Outcome(TrialState.FAIL, attributes={"error": str(error)})
        if not math.isfinite(value):
            return _Outcome(TrialState.FAIL, attributes={"error": f"{self.task.metric} is {value}."})
        return _Outcome(TrialState.COMPLETE, value, attributes)

    def end(self, trial: Trial, outcome: _Outcome) -> None:
        if outcome.state == TrialState.RUNNING:
            return
        with self.lock:
            for name, value in outcome.attributes.items():
                trial.set_user_attr(name, value)
            # Another run may have ended the trial because it looked interrupted.
            self.study.tell(trial, outcome.value, state=outcome.state, skip_if_finished=True)

    def _watch(self, trial: Trial) -> Callable[[str], None]:
        epochs: set[int] = set()

        def on_line(line: str) -> None:
            epoch = progress.parse(line)
            if epoch is None or epoch["epoch"] in epochs or self.task.metric not in epoch:
                return  # a new host may repeat the last epoch; some models have this metric only at their end
            epochs.add(epoch["epoch"])
            with self.lock:
                trial.report(epoch[self.task.metric], epoch["epoch"])
                prune = trial.should_prune()
            if prune:
                raise _PrunedError

        return on_line


@contextmanager
def _open_study(task: TuningTask) -> Iterator[tuple[Study, Callable[[], None]]]:
    """Open the study, with a function that uploads it to a remote store."""
    uri = task.folder("study.db")
    with tempfile.TemporaryDirectory(prefix="boat-tuning-") as folder:
        path = Path(folder) / "study.db" if store.is_remote(uri) else Path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        if store.is_remote(uri) and store.exists(uri):
            shutil.copyfile(store.fetch(uri, Path(folder) / "download"), path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = RDBStorage(f"sqlite:///{path}")

        def save() -> None:
            store.publish(path, uri)

        try:
            yield _study(task, storage), save
        finally:
            storage.engine.dispose()


def _in_memory(study: Study) -> Study:
    """Copy a study, so that it can be read after its file is closed."""
    copied = optuna.create_study(study_name=study.study_name, direction=study.direction)
    copied.add_trials(study.get_trials())
    return copied


def _study(task: TuningTask, storage: RDBStorage) -> Study:
    study = optuna.create_study(
        storage=storage,
        study_name=task.study,
        direction=kinds.load(task.kind).tuning_direction,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
    )
    study.sampler = optuna.samplers.TPESampler(
        # A continued study must not draw the same parameters again.
        seed=int(task.parameters.seed) + len(study.get_trials(deepcopy=False)),
        n_startup_trials=_RANDOM_TRIALS,
        multivariate=True,
        constant_liar=True,  # parallel trials must not all have the same parameters
    )
    return study


def _enqueue(study: Study, task: TuningTask) -> None:
    """Enqueue the interrupted trials of earlier runs, then the default parameters if they are new."""
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        study.enqueue_trial(trial.params)
    study.enqueue_trial(defaults(task.kind, task.space), skip_if_exists=True)
