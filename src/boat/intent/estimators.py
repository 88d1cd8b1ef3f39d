"""The registry of intent models: the parts of each, and the parameters that tuning varies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from boat.intent.parameters import IntentModel
from boat.kinds import Range, Space

Part = Literal["boosting", "sequence", "lstm", "logistic"]


@dataclass(frozen=True)
class Estimator:
    """How one intent model is built.

    Attributes:
        parts: The models that are fitted for it. Two parts are blended as well.
        space: The parameters that tuning varies.
    """

    parts: tuple[Part, ...]
    space: Space


_WINDOW: Space = {"window": Range(10, 60)}
_NETWORK: Space = {
    "units": Range(8, 128, log=True),
    "dropout": Range(0.0, 0.6),
    "learning_rate": Range(5e-4, 2e-2, log=True),
    "batch_size": Range(64, 1024, log=True),
}
_TREES: Space = {"leaves": Range(3, 32, log=True), "rounds": Range(50, 600, log=True)}

ESTIMATORS: Mapping[IntentModel, Estimator] = {
    "auto": Estimator(("sequence", "boosting"), {**_NETWORK, **_TREES, **_WINDOW}),
    "blend": Estimator(("sequence", "boosting"), {**_NETWORK, **_TREES, **_WINDOW}),
    "boosting": Estimator(("boosting",), {**_TREES, **_WINDOW}),
    "sequence": Estimator(("sequence",), {**_NETWORK, **_WINDOW}),
    "lstm": Estimator(("lstm",), {**_NETWORK, **_WINDOW}),
    "logistic": Estimator(("logistic",), _WINDOW),
}
