"""What a training can be told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from boat.errors import SettingError

RecommendModel = Literal[
    "blend",
    "attention",
    "session_lstm",
    "masked_transformer",
    "prod2vec_knn",
    "vmis_knn",
    "co_occurrence",
    "popular",
]
IntentModel = Literal["auto", "blend", "boosting", "sequence", "lstm"]
Repeats = Literal["drop", "keep"]

_CHOICES: Mapping[Any, tuple[str, ...]] = {kind: get_args(kind) for kind in (RecommendModel, IntentModel, Repeats)}


@dataclass(frozen=True)
class RecommendParameters:
    """Of the next-item model.

    Attributes:
        model: Which of the family. What is said of epochs, steps and steepness below is for those with a network.
        repeats: `keep` lets a product follow itself; `drop` takes it in a row as one, and never lists the current one.
        half_life: Days after which what followed a page counts half, in `co_occurrence` and in a blend.
        sample: Sessions that `vmis_knn` compares, alone or in a blend: the newest that share a product.
        neighbours: Sessions that vote in it.
        dimensions: Length of a product's embedding.
        window: How many of a session's last products it looks at.
        scale: Steepness of the softmax over cosines.
        dropout: Share of embedding values dropped while training.
        learning_rate: Of Adam.
        batch_size: Examples a step, at most; fewer where that leaves under 100 steps an epoch.
        negatives: Products drawn for each step that the right ones are held against; all, where there are not more.
        epochs: Passes over the examples, at most.
        patience: Epochs without a better validation MRR@20 before it stops.
        refit_epochs: Passes over train and validation examples together after that, so that the newest days are known.
        max_seconds: Training time, at most. Where it ends a training, the machine's speed decides the result too.
        seed: Of all that is random. The same seed gives the same model but for the rounding of parallel sums.
    """

    model: RecommendModel = "blend"
    repeats: Repeats = "drop"
    half_life: float = 30.0
    sample: int = 500
    neighbours: int = 100
    dimensions: int = 128
    window: int = 12
    scale: float = 14.0
    dropout: float = 0.35
    learning_rate: float = 0.003
    batch_size: int = 512
    negatives: int = 1024
    epochs: int = 8
    patience: int = 3
    refit_epochs: int = 5
    max_seconds: float = 75.0
    seed: int = 0


@dataclass(frozen=True)
class IntentParameters:
    """Of the purchase-intent model.

    Attributes:
        model: Which of the family: networks are `sequence` and `lstm`, `boosting` are trees on hand-made features,
            `blend` is the mean of `sequence` and `boosting`. `auto` is the blend, unless one of its parts alone is
            clearly better on the validation split, see `boat.models.intent_family.best`. What is said of units,
            dropout, speed, epochs and seconds below is for networks alone.
        window: How many of a session's last events it looks at one by one.
        members: Boosted models, each choosing among other features, that are averaged.
        leaves: Of a tree, at most.
        rounds: Trees of a member, at most.
        contact_cost: What it costs to do something about a shopper. The evaluation reads it; training does not.
        sale_value: What that is worth with one who buys, in the same unit: contacted is whose chance of a purchase is
            above the quotient.
        units: Width of its layers.
        dropout: Share of values dropped while training.
        learning_rate: Of Adam.
        batch_size: Sessions a step, at most; fewer where that leaves under 30 steps an epoch.
        epochs: Passes over the sessions, at most; each time with other prefixes.
        patience: Epochs without a better validation loss before it stops.
        max_seconds: Training time, at most. Where it ends a training, the machine's speed decides the result too.
        seed: Of all that is random. The same seed gives the same model but for the rounding of parallel sums.
    """

    model: IntentModel = "auto"
    window: int = 30
    members: int = 16
    leaves: int = 16
    rounds: int = 300
    contact_cost: float = 1.0
    sale_value: float = 20.0
    units: int = 16
    dropout: float = 0.3
    learning_rate: float = 0.003
    batch_size: int = 256
    epochs: int = 60
    patience: int = 5
    max_seconds: float = 30.0
    seed: int = 0


Parameters = TypeVar("Parameters", RecommendParameters, IntentParameters)


def parse(text: str, kind: type[Parameters]) -> Parameters:
    """Parameters from JSON such as `{"seed": 1}`; what is not there has its default.

    Raises:
        SettingError: Not a JSON object, an unknown name, or a value that cannot work.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise SettingError(f"The parameters {text!r} are not JSON ({error}).", 'Write them as {"seed": 1}.') from error
    known = {field.name: field.type for field in fields(kind)}
    if not isinstance(given, dict) or given.keys() - known.keys():
        raise SettingError(f"Unknown parameters in {text!r}.", f"Known are: {', '.join(known)}.")
    checked: dict[str, Any] = {name: _checked(name, value, known[name]) for name, value in given.items()}
    return kind(**checked)


def _checked(name: str, value: Any, wanted: Any) -> str | int | float:
    if wanted in _CHOICES:
        if value not in _CHOICES[wanted]:
            raise SettingError(f"Parameter {name}={value!r} is unknown.", f"Choose of: {', '.join(_CHOICES[wanted])}.")
        return str(value)
    allowed = (int,) if wanted is int else (int, float)
    lowest = 0 if name in ("dropout", "seed", "refit_epochs") else 1 if wanted is int else 1e-9
    if isinstance(value, bool) or not isinstance(value, allowed) or not value >= lowest or value == float("inf"):
        raise SettingError(f"Parameter {name}={value!r} is not a number from {lowest}.", "Correct it.")
    if name == "dropout" and value >= 1:
        raise SettingError(f"Parameter dropout={value!r} would drop everything.", "Choose one below 1.")
    return int(value) if wanted is int else float(value)
