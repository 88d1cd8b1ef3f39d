"""The gate before promotion: a challenger may answer shoppers if it is not worse than who answers them now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from boat import kinds
from boat.evaluation.behaviour import BehaviourResult
from boat.kinds import GatePolicy, KindName

BEHAVIOUR = "behaviour"
"""How the names of the gates begin that are tests of behaviour."""

Metrics = Mapping[str, Any]
"""What the evaluation writes: figures by model, `challenger`, `champion` (None before the first), and the baselines."""


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes:
        name: What it asks, such as `champion`, or `behaviour no_product_twice`.
        challenger: The challenger's figure.
        reference: Who it is held against; None where there is nobody.
        limit: What the challenger's figure must reach, or for `calibration` and some behaviour stay within.
        passed: Whether it does.
        text: The same as a sentence, with by how much.
    """

    name: str
    challenger: float
    reference: float | None
    limit: float
    passed: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """The gates of one challenger."""

    gates: tuple[Gate, ...]

    @property
    def accepted(self) -> bool:
        """All gates passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def misbehaves(self) -> tuple[Gate, ...]:
        """The tests of behaviour that refuse."""
        return tuple(gate for gate in self.gates if gate.name.startswith(BEHAVIOUR) and not gate.passed)

    @property
    def text(self) -> str:
        """One line: that it is accepted, or each gate that refuses and by how much."""
        refusals = [f"{gate.name}: {gate.text}" for gate in self.gates if not gate.passed]
        return "Refused. " + " ".join(refusals) if refusals else f"Accepted: all {len(self.gates)} gates passed."


def decide(kind: KindName, metrics: Metrics, policy: GatePolicy | None = None) -> Decision:
    """Hold a challenger against champion and baselines, all measured on the same test days.

    A figure that is missing or not a finite number never passes.

    Args:
        kind: Kind of the model.
        metrics: What `boat.evaluation.evaluate` wrote.
        policy: The conditions; those of the kind if None.
    """
    policy = policy or kinds.load(kind).gates
    challenger = _figure(metrics, "challenger", policy.metric)
    gates = (
        _enough(metrics, policy),
        _champion(metrics, policy),
        *(_above(name, policy.metric, challenger, _figure(metrics, name, policy.metric)) for name in policy.baselines),
        *(_within(gate, name, maximum, metrics) for gate, (name, maximum) in policy.limits.items()),
        *_behaviour(metrics),
    )
    return Decision(gates)


def _figure(metrics: Metrics, model: str, name: str) -> float:
    """NaN, which passes no gate, where the figure is missing."""
    value = (metrics.get(model) or {}).get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _enough(metrics: Metrics, policy: GatePolicy) -> Gate:
    targets, limit = _figure(metrics, "challenger", "targets"), float(policy.minimum_targets)
    passed = math.isfinite(targets) and targets >= limit
    text = f"{targets:.0f} targets on the test days, at least {limit:.0f} needed."
    return Gate("targets", targets, None, limit, passed, text)


def _champion(metrics: Metrics, policy: GatePolicy) -> Gate:
    name = policy.metric
    challenger = _figure(metrics, "challenger", name)
    if not metrics.get("champion"):
        passed = math.isfinite(challenger)
        text = f"No champion yet to hold {name} {challenger:.4f} against."
        return Gate("champion", challenger, None, 0.0, passed, text)
    champion = _figure(metrics, "champion", name)
    limit = champion * (1 - policy.tolerance)
    passed = _finite(challenger, champion) and challenger >= limit
    terms = f"the champion's {champion:.4f} less {policy.tolerance:.1%} is {limit:.4f}"
    return Gate("champion", challenger, champion, limit, passed, f"{_distance(name, challenger, limit)}: {terms}.")


def _above(name: str, metric: str, challenger: float, reference: float) -> Gate:
    passed = _finite(challenger, reference) and challenger > reference
    text = f"{_distance(metric, challenger, reference)}: the baseline {name} has {reference:.4f}."
    return Gate(name, challenger, reference, reference, passed, text)


def _within(gate: str, name: str, maximum: float, metrics: Metrics) -> Gate:
    figure = _figure(metrics, "challenger", name)
    passed = math.isfinite(figure) and figure <= maximum
    text = f"{_distance(name, figure, maximum)}: at most {maximum:.4f} is allowed."
    return Gate(gate, figure, None, maximum, passed, text)


def behaviour(metrics: Metrics) -> tuple[BehaviourResult, ...]:
    """What became of the challenger's tests of behaviour."""
    return tuple(BehaviourResult(**each) for each in (metrics.get("challenger") or {}).get("behaviour", ()))


def _behaviour(metrics: Metrics) -> tuple[Gate, ...]:
    """A gate for each critical behaviour test that the challenger fails; one that is open if it fails none."""
    critical = [result for result in behaviour(metrics) if result.severity == "critical"]
    if not critical:
        text = "No behaviour was tested. Evaluate it again."
        return (Gate(BEHAVIOUR, math.nan, None, 1.0, False, text),)
    failed = tuple(
        Gate(
            f"{BEHAVIOUR} {result.name}",
            math.nan if result.value is None else result.value,
            None,
            result.threshold,
            False,
            f"{result.said}. {result.text}",
        )
        for result in critical
        if not result.passed
    )
    text = f"All {len(critical)} critical behaviour tests hold."
    return failed or (Gate(BEHAVIOUR, 1.0, None, 1.0, True, text),)


def _distance(metric: str, figure: float, limit: float) -> str:
    if not _finite(figure, limit):
        return f"{metric} cannot be compared, a figure is missing or not finite ({figure:.4f} against {limit:.4f})"
    side = "above" if figure > limit else "below"
    share = f" ({abs(figure / limit - 1):.1%})" if abs(figure) < 10 * limit else ""
    return f"{metric} {figure:.4f} is {abs(figure - limit):.4f}{share} {side} the limit"


def _finite(*figures: float) -> bool:
    return all(map(math.isfinite, figures))
