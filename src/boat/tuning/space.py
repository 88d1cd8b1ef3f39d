"""The parameters that tuning varies, as Optuna's distributions."""

from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from boat import kinds
from boat.kinds import KindName, Range

Distributions = Mapping[str, BaseDistribution]


def space(kind: KindName, model: str, fixed: Collection[str] = ()) -> Distributions:
    """Return the distribution of each parameter that tuning varies; empty if the model has no such parameter.

    Args:
        kind: Kind of the model.
        model: Name of the model.
        fixed: Parameters that are not varied.
    """
    ranges = kinds.load(kind).spaces.get(model, {})
    return {name: _distribution(values) for name, values in ranges.items() if name not in fixed}


def defaults(kind: KindName, varied: Distributions) -> dict[str, Any]:
    """Return the default values of the parameters that tuning varies."""
    parameters = kinds.load(kind).parameters()
    return {name: getattr(parameters, name) for name in varied}


def _distribution(values: Range) -> BaseDistribution:
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log, step=values.step)
    return FloatDistribution(values.low, values.high, log=values.log)
