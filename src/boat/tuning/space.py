"""What a search tries: of each model, the parameters that matter most, in ranges around what has worked."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from boat.intent.parameters import IntentParameters
from boat.kinds import Kind
from boat.recommend.parameters import RecommendParameters

Space = Mapping[str, BaseDistribution]

_RATE = FloatDistribution(5e-4, 2e-2, log=True)

_NETWORK: Space = {
    "dimensions": IntDistribution(32, 256, step=32),
    "window": IntDistribution(4, 40),
    "scale": FloatDistribution(6.0, 24.0),
    "dropout": FloatDistribution(0.0, 0.8),
    "learning_rate": _RATE,
    "epochs": IntDistribution(2, 20),
}
_NEIGHBOURS: Space = {
    "sample": IntDistribution(100, 5000, log=True),
    "neighbours": IntDistribution(20, 1500, log=True),
}
_RECOMMEND: Mapping[str, Space] = {
    "blend": {**_NETWORK, **_NEIGHBOURS},
    "attention": _NETWORK,
    "session_lstm": _NETWORK,
    "masked_transformer": _NETWORK,
    "prod2vec_knn": _NETWORK,
    "vmis_knn": {**_NEIGHBOURS, "window": IntDistribution(2, 40)},
}
_SEQUENCE: Space = {
    "units": IntDistribution(8, 128, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "learning_rate": _RATE,
    "batch_size": IntDistribution(64, 1024, log=True),
}
_TREES: Space = {
    "leaves": IntDistribution(3, 32, log=True),
    "rounds": IntDistribution(50, 600, log=True),
}
_EVENTS: Space = {"window": IntDistribution(10, 60)}
_INTENT: Mapping[str, Space] = {
    "auto": {**_SEQUENCE, **_TREES, **_EVENTS},
    "blend": {**_SEQUENCE, **_TREES, **_EVENTS},
    "boosting": {**_TREES, **_EVENTS},
    "sequence": {**_SEQUENCE, **_EVENTS},
    "lstm": {**_SEQUENCE, **_EVENTS},
}


def space(kind: Kind, told: Mapping[str, Any]) -> Space:
    """What may be varied; empty for a model that has nothing to vary.

    Args:
        kind: Of the model.
        told: What a training is told in any case: which model, and parameters that are not to be varied.
    """
    spaces, usual = (_INTENT, IntentParameters.model) if kind == "intent" else (_RECOMMEND, RecommendParameters.model)
    whole = spaces.get(told.get("model", usual), {})
    return {name: distribution for name, distribution in whole.items() if name not in told}


def defaults(kind: Kind, varied: Space) -> dict[str, Any]:
    """The values that those parameters have without a search."""
    usual = IntentParameters() if kind == "intent" else RecommendParameters()
    return {name: getattr(usual, name) for name in varied}
