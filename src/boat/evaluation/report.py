"""The evaluation report: metrics of challenger, champion and baselines on the same test days."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from boat.errors import DataError
from boat.evaluation.behaviour import BehaviourResult

Metrics = Mapping[str, float]
"""Metrics by name. `NAME_low` and `NAME_high` are the ends of a 95 % interval."""


@dataclass(frozen=True)
class Difference:
    """A difference between two models on the same targets, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CalibrationBin:
    """Targets with similar predictions: how many, their mean prediction, and the share that came true."""

    count: int
    predicted: float
    actual: float


@dataclass(frozen=True)
class Slice:
    """The metrics of a part of the targets.

    Attributes:
        by: Property that divides the targets, such as `popularity`.
        name: Its value in this part, such as `rare third`.
        targets: Number of targets.
        metrics: Metrics of this part.
        above_champion: Difference to the champion by metric.
    """

    by: str
    name: str
    targets: int
    metrics: Metrics
    above_champion: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelReport:
    """The metrics of one model.

    Attributes:
        metrics: Metrics over all targets.
        slices: Metrics of parts of the targets.
        moments: Metrics at moments of a session, such as `add_to_cart` or after so many events.
        calibration: Predictions and outcomes, lowest prediction first.
        contacts: Costs and gains of contacting the sessions that the model chooses.
        above_champion: Difference to the champion by metric.
        behaviour: Results of the behaviour tests.
        model: Name of the model in its kind, such as `blend`. Empty for baselines.
    """

    metrics: Metrics
    slices: tuple[Slice, ...] = ()
    moments: Mapping[str, Metrics] = field(default_factory=dict)
    calibration: tuple[CalibrationBin, ...] = ()
    contacts: Metrics = field(default_factory=dict)
    above_champion: Mapping[str, Difference] = field(default_factory=dict)
    behaviour: tuple[BehaviourResult, ...] = ()
    model: str = ""

    def metric(self, name: str) -> float:
        """Return a metric; NaN if it is missing."""
        return self.metrics.get(name, math.nan)


@dataclass(frozen=True)
class DataReport:
    """The data of an evaluation.

    Attributes:
        first_session: Start of the first session, ISO 8601, UTC.
        validation_from: Start of the validation days.
        test_from: Start of the test days.
        as_of: End of the test days.
        split_rule: How the days were chosen.
        sessions: Sessions with at least two items.
        rows: Rows by file of the snapshot.
    """

    first_session: str
    validation_from: str
    test_from: str
    as_of: str
    split_rule: str
    sessions: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class EvaluationReport:
    """The result of an evaluation.

    Attributes:
        challenger: The evaluated model.
        champion: The model that shoppers see; None before the first promotion.
        baselines: Simple models by name.
        data: Days and sizes of the snapshot.
    """

    challenger: ModelReport
    champion: ModelReport | None = None
    baselines: Mapping[str, ModelReport] = field(default_factory=dict)
    data: DataReport | None = None

    def models(self) -> Mapping[str, ModelReport]:
        """Return all models by name, the challenger first."""
        champion = {"champion": self.champion} if self.champion else {}
        return {"challenger": self.challenger, **champion, **self.baselines}

    def to_json(self) -> str:
        """Return the report as JSON. A metric that is not a finite number is null."""
        return json.dumps(jsonable(asdict(self)), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, uri: str) -> "EvaluationReport":
        """Read a report.

        Args:
            text: JSON of `to_json`.
            uri: Its location, for the error message.

        Raises:
            DataError: The text is not a report of this version of Boat.
        """
        with parsing("an evaluation report", uri):
            content = json.loads(text)
            return cls(
                challenger=_model(content["challenger"]),
                champion=_model(content["champion"]) if content["champion"] else None,
                baselines={name: _model(baseline) for name, baseline in content["baselines"].items()},
                data=DataReport(**content["data"]) if content["data"] else None,
            )


@contextmanager
def parsing(name: str, uri: str) -> Iterator[None]:
    """Raise a `DataError` that names the file if its JSON has another layout."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{uri} is not {name} of this version of Boat ({error!r}).",
            "Delete the file and run the flow again: it evaluates the model again.",
        ) from error


def _model(content: Mapping[str, Any]) -> ModelReport:
    return ModelReport(
        metrics=_metrics(content["metrics"]),
        model=content["model"],
        slices=tuple(map(_slice, content["slices"])),
        moments={moment: _metrics(metrics) for moment, metrics in content["moments"].items()},
        calibration=tuple(CalibrationBin(**row) for row in content["calibration"]),
        contacts=_metrics(content["contacts"]),
        above_champion=_differences(content["above_champion"]),
        behaviour=tuple(BehaviourResult(**result) for result in content["behaviour"]),
    )


def _slice(content: Mapping[str, Any]) -> Slice:
    metrics, differences = _metrics(content["metrics"]), _differences(content["above_champion"])
    return Slice(**{**content, "metrics": metrics, "above_champion": differences})


def _differences(content: Mapping[str, Any]) -> Mapping[str, Difference]:
    return {name: Difference(**values) for name, values in content.items()}


def _metrics(content: Mapping[str, Any]) -> Metrics:
    """Check that all values are numbers. Nulls are left out."""
    metrics = {name: value for name, value in content.items() if value is not None}
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}={value!r} is not a number")
    return metrics


def jsonable(value: Any) -> Any:
    """Return a value of dictionaries and sequences with null for each number that is not finite."""
    if isinstance(value, dict):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
