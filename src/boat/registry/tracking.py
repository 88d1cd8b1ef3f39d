"""Where trainings are recorded, for people to compare: MLflow, and what else is named. No training needs it.

To add Weights and Biases, Comet or Neptune, install a class with a method `record` as an entry point of the group
`boat.trackers`. docs/tracking.md has an example.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boat.backends import Backend, construct

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

DIGEST = "digest"
CURVE = "curve/"
"""Metrics of a learning curve are logged under this prefix, apart from those of the evaluation."""

_BATCH = 1000
"""MLflow takes no more metrics at once."""
_HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""A server that is down is noticed in a quarter of a minute; MLflow's own way takes five."""


@dataclass(frozen=True)
class Training:
    """A training that is over, and its model.

    Attributes:
        name: Registered model, named like its endpoint.
        uri: Where the `model.tar.gz` lies.
        digest: SHA-256 of that file.
        metrics: Evaluation on the test days.
        parameters: What the training was told.
        lineage: What the model was made from: snapshot, code, dbt manifest, flow run.
        curve: One mapping an epoch, with `epoch` and numbers.
    """

    name: str
    uri: str
    digest: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    lineage: Mapping[str, str]
    curve: Sequence[Mapping[str, Any]] = ()


class Tracker(Protocol):
    """A place that records trainings."""

    def record(self, training: Training) -> None:
        """Record a training. It may be called again for the same one, which it knows by name and digest.

        Whatever it raises is told to the user and does not fail the training.
        """


_BACKENDS = {"ndjson": Backend("boat.registry.tracking", "NdjsonTracker", "pip install boat")}


def connect(url: str) -> Tracker:
    """The tracker behind a URL, such as `ndjson:/path/to/trainings.ndjson`.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    tracker: Tracker = construct("tracking", "boat.trackers", url, _BACKENDS)
    return tracker


def record(trackers: Mapping[str, Callable[[], Tracker]], training: Training) -> tuple[str, ...]:
    """Record a training wherever that works.

    Args:
        trackers: What makes them, by how they are called in a message.
        training: What to record.

    Returns:
        A sentence for each that failed, with the reason and the next step.
    """
    failures = []
    for name, make in trackers.items():
        try:
            make().record(training)
        except Exception as error:  # whatever a tracker of somebody else's raises: the model is what matters
            failures.append(
                f"The tracker {name} did not record {training.name} {training.digest[:8]} ({error}). "
                "The model is not touched by that; start the tracker, or correct its address in the platform block."
            )
    return tuple(failures)


class NdjsonTracker:
    """Appends a line of JSON a training to a file.

    Args:
        url: `ndjson:/path/to/trainings.ndjson`
    """

    def __init__(self, url: str) -> None:
        self._path = Path(url.removeprefix("ndjson:"))

    def record(self, training: Training) -> None:
        """Append the training; one that is recorded twice is there twice."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(training)) + "\n")


class MlflowTracker:
    """Makes an MLflow run of each training, in an experiment named like the model.

    Args:
        uri: MLflow's tracking URI, such as `sqlite:////absolute/path/mlflow.db`; the file is made on first use.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        for name, value in _HTTP.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow.store.db.utils"):  # narrates the making of its tables
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(self._uri)

    def record(self, training: Training) -> None:
        """Record parameters, figures and learning curve; a run that an interrupted call left is used again."""
        run = self.run_of(training.name, training.digest)
        if run is None or run.info.status != "FINISHED":
            self._log(self._start(training) if run is None else run.info.run_id, training)

    def run_of(self, name: str, digest: str) -> "Run | None":
        """The run of a training; None where it was not recorded."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return None
        found = self.client.search_runs([experiment.experiment_id], f"tags.{DIGEST}='{digest}'", max_results=1)
        return found[0] if found else None

    def _start(self, training: Training) -> str:
        experiment = self.client.get_experiment_by_name(training.name)
        known = self.client.create_experiment(training.name) if experiment is None else experiment.experiment_id
        tags = {**training.lineage, DIGEST: training.digest}
        name = f"{training.name} {training.digest[:8]}"
        return str(self.client.create_run(known, tags=tags, run_name=name).info.run_id)

    def _log(self, run_id: str, training: Training) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        logged = [Metric(key, float(value), now, 0) for key, value in training.metrics.items()]
        logged += _curve(training.curve, now)
        for start in range(0, len(logged), _BATCH):
            self.client.log_batch(run_id, metrics=logged[start : start + _BATCH])
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in training.parameters.items()])
        self.client.set_terminated(run_id)


def _curve(curve: Iterable[Mapping[str, Any]], timestamp: int) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    for step, epoch in enumerate(curve, start=1):
        for key, value in epoch.items():
            if key != "epoch" and isinstance(value, int | float) and math.isfinite(value):
                yield Metric(f"{CURVE}{key}", float(value), timestamp, int(epoch.get("epoch", step)))
