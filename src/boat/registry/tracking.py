"""Trackers record trainings, so that people can compare them: MLflow, and others by the URLs of the platform block.

A training succeeds even if no tracker can record it. To add Weights and Biases, Comet or Neptune, install a class with
a method `record` as an entry point of the group `boat.trackers`. docs/tracking.md has an example.
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

DIGEST, SNAPSHOT_URI = "digest", "snapshot_uri"
RELEASE_DIGEST, RELEASE_URI = "release_digest", "release_uri"
"""Tags of MLflow's runs and model versions."""
CURVE = "curve/"
"""Prefix of the metrics of a learning curve in MLflow. Metrics of the evaluation have no prefix."""

_BATCH = 1000
"""MLflow's limit on the metrics of one request."""
_HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""With these, a server that is down is detected in 15 seconds. MLflow's defaults take five minutes."""


@dataclass(frozen=True)
class Training:
    """A completed training and its model.

    Attributes:
        name: Registered model, named like its endpoint.
        uri: Location of the `model.tar.gz`.
        digest: SHA-256 of that file.
        snapshot_uri: Location of the snapshot with its training, validation and test data.
        metrics: Evaluation on the test days.
        parameters: Parameters of the training.
        lineage: Origin of the model: digest of the snapshot, version of the code, dbt manifest, flow run.
        curve: One mapping for each epoch, with `epoch` and numbers.
        release_uri: Location of the archive to be released, which was trained on all days. Empty: that of `uri`.
        release_digest: SHA-256 of that file. Empty: `digest`.
    """

    name: str
    uri: str
    digest: str
    snapshot_uri: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    lineage: Mapping[str, str]
    curve: Sequence[Mapping[str, Any]] = ()
    release_uri: str = ""
    release_digest: str = ""

    @property
    def tags(self) -> Mapping[str, str]:
        """Return the tags of its run and its version in MLflow."""
        tags = {**self.lineage, SNAPSHOT_URI: self.snapshot_uri, DIGEST: self.digest}
        release = {RELEASE_URI: self.release_uri, RELEASE_DIGEST: self.release_digest}
        return {**tags, **{name: value for name, value in release.items() if value}}


class Tracker(Protocol):
    """A service or file that records trainings."""

    def record(self, training: Training) -> None:
        """Record a training, identified by its name and digest. It may be called twice for the same training.

        An error is logged as a warning. It does not fail the training.
        """


_BACKENDS = {"ndjson": Backend("boat.registry.tracking", "NdjsonTracker", "pip install boat")}


def connect(url: str) -> Tracker:
    """Return the tracker of a URL, such as `ndjson:/path/to/trainings.ndjson`.

    Raises:
        SettingError: The protocol is unknown, or its package is not installed.
    """
    tracker: Tracker = construct("tracking", "boat.trackers", url, _BACKENDS)
    return tracker


def record(trackers: Mapping[str, Callable[[], Tracker]], training: Training) -> tuple[str, ...]:
    """Record a training with every tracker. If one fails, the next ones still record it.

    Args:
        trackers: Functions that create the trackers, by the name of each tracker in a message.
        training: The training to record.

    Returns:
        A message for each tracker that failed, with the reason and the next step.
    """
    failures = []
    for name, make in trackers.items():
        try:
            make().record(training)
        except Exception as error:  # another package's tracker may raise anything, and must not cost the model
            failures.append(
                f"The tracker {name} did not record the training of {training.name} {training.digest[:8]}: {error}. "
                "The model is not affected. Start the tracker, or correct its address in the platform block."
            )
    return tuple(failures)


class NdjsonTracker:
    """Appends one line of JSON for each training to a file.

    Args:
        url: `ndjson:/path/to/trainings.ndjson`
    """

    def __init__(self, url: str) -> None:
        self._path = Path(url.removeprefix("ndjson:"))

    def record(self, training: Training) -> None:
        """Append the training. A training that is recorded twice has two lines."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(training)) + "\n")


class MlflowTracker:
    """Creates an MLflow run for each training, in an experiment with the name of the model.

    Args:
        uri: MLflow's tracking URI, such as `sqlite:////absolute/path/mlflow.db`. The file is created on first use.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @cached_property
    def client(self) -> "MlflowClient":
        """Return MLflow's client."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        for name, value in _HTTP.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow.store.db.utils"):  # they log the creation of each table
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(self._uri)

    def record(self, training: Training) -> None:
        """Record parameters, metrics and learning curve. The run of an interrupted call is completed."""
        run = self.run_of(training.name, training.digest)
        if run is None or run.info.status != "FINISHED":
            self._log(self._start(training) if run is None else run.info.run_id, training)

    def run_of(self, name: str, digest: str) -> "Run | None":
        """Return the run of a training, or `None` if it was not recorded."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            return None
        runs = self.client.search_runs([experiment.experiment_id], f"tags.{DIGEST}='{digest}'", max_results=1)
        return runs[0] if runs else None

    def _start(self, training: Training) -> str:
        experiment = self.client.get_experiment_by_name(training.name)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(training.name)
        name = f"{training.name} {training.digest[:8]}"
        return str(self.client.create_run(experiment_id, tags=dict(training.tags), run_name=name).info.run_id)

    def _log(self, run_id: str, training: Training) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, 0) for key, value in training.metrics.items()]
        metrics += _curve(training.curve, now)
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in training.parameters.items()])
        self.client.set_terminated(run_id)


def _curve(curve: Iterable[Mapping[str, Any]], timestamp: int) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    for step, epoch in enumerate(curve, start=1):
        for key, value in epoch.items():
            if key != "epoch" and isinstance(value, int | float) and math.isfinite(value):
                yield Metric(f"{CURVE}{key}", float(value), timestamp, int(epoch.get("epoch", step)))
