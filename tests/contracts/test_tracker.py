"""Contract of all trackers. The tests of a tracker inherit `TrackerContract`."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from boat.registry.tracking import MlflowTracker, NdjsonTracker, Tracker, Training


class TrackerContract(ABC):
    """Inherit it and override `tracker` and `metrics`."""

    @pytest.fixture
    @abstractmethod
    def tracker(self, tmp_path: Path) -> Tracker:
        """Return the tracker to test."""

    @pytest.fixture
    def training(self, request: pytest.FixtureRequest) -> Training:
        return Training(
            name="boat-recommend",
            uri="/store/model.tar.gz",
            digest=sha256(request.node.name.encode()).hexdigest(),
            snapshot_uri="/store/snapshots/cd34",
            metrics={"mrr_at_20": 0.25},
            parameters={"seed": "7"},
            lineage={"snapshot": "cd34"},
            curve=[{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": math.nan}],
        )

    @abstractmethod
    def metrics(self, tracker: Tracker, digest: str) -> Mapping[str, float]:
        """Read the recorded metrics of a training of `boat-recommend`."""

    def test_a_training_is_recorded(self, tracker: Tracker, training: Training) -> None:
        tracker.record(training)
        assert self.metrics(tracker, training.digest)["mrr_at_20"] == 0.25

    def test_a_training_may_be_recorded_twice(self, tracker: Tracker, training: Training) -> None:
        tracker.record(training)
        tracker.record(training)
        assert self.metrics(tracker, training.digest)["mrr_at_20"] == 0.25

    def test_trainings_are_identified_by_their_digest(self, tracker: Tracker, training: Training) -> None:
        tracker.record(training)
        tracker.record(replace(training, digest="ef56", metrics={"mrr_at_20": 0.5}))
        assert [self.metrics(tracker, digest)["mrr_at_20"] for digest in (training.digest, "ef56")] == [0.25, 0.5]

    def test_a_training_may_have_no_curve(self, tracker: Tracker, training: Training) -> None:
        tracker.record(replace(training, curve=()))
        assert self.metrics(tracker, training.digest)["mrr_at_20"] == 0.25


class TestNdjson(TrackerContract):
    @pytest.fixture
    def tracker(self, tmp_path: Path) -> Tracker:
        self.path = tmp_path / "new" / "trainings.ndjson"
        return NdjsonTracker(f"ndjson:{self.path}")

    def metrics(self, tracker: Tracker, digest: str) -> Mapping[str, float]:
        lines = map(json.loads, self.path.read_text().splitlines())
        return next(line["metrics"] for line in lines if line["digest"] == digest)


class TestMlflow(TrackerContract):
    @pytest.fixture(scope="class")  # creating the tables takes seconds
    @classmethod
    def tracker(cls, tmp_path_factory: pytest.TempPathFactory) -> Tracker:
        return MlflowTracker(f"sqlite:///{tmp_path_factory.mktemp('tracker') / 'new' / 'mlflow.db'}")

    def metrics(self, tracker: Tracker, digest: str) -> Mapping[str, float]:
        assert isinstance(tracker, MlflowTracker)
        run = tracker.run_of("boat-recommend", digest)
        assert run is not None
        return run.data.metrics
