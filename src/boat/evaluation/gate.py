"""The gates before a promotion: a challenger must not be worse than the champion and must beat the baselines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from boat import kinds
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.report import EvaluationReport, ModelReport
from boat.evaluation.twin import TwinReport
from boat.kinds import GatePolicy, KindName

BEHAVIOUR = "behaviour"
"""Prefix of the names of behaviour gates."""

_MISSING = ModelReport({})


@dataclass(frozen=True)
class Gate:
    """One condition.

    Attributes:
        name: Name of the condition, such as `champion`, or `behaviour no_product_twice`.
        challenger: The challenger's metric.
        reference: The metric of the champion or baseline; None if the challenger is compared with no model.
        limit: Limit of the challenger's metric: a minimum, or a maximum for `calibration` and some behaviour tests.
        passed: Whether the condition holds.
        text: The comparison as a sentence.
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
        """Return whether all gates passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def misbehaves(self) -> tuple[Gate, ...]:
        """Return the behaviour gates that failed."""
        return tuple(gate for gate in self.gates if gate.name.startswith(BEHAVIOUR) and not gate.passed)

    @property
    def text(self) -> str:
        """Return one line: acceptance, or each failed gate with its distance to the limit."""
        refusals = [f"{gate.name}: {gate.text}" for gate in self.gates if not gate.passed]
        return "Refused. " + " ".join(refusals) if refusals else f"Accepted: all {len(self.gates)} gates passed."


def decide(
    kind: KindName, report: EvaluationReport, policy: GatePolicy | None = None, incomparable: str = ""
) -> Decision:
    """Compare a challenger with the champion and the baselines on the same test days.

    A metric that is missing or not a finite number never passes.

    Args:
        kind: Kind of the model.
        report: Its evaluation.
        policy: The conditions; by default the kind's own.
        incomparable: Why the report lacks the champion. Empty if it has the champion, or if there is none.
    """
    policy = policy or kinds.load(kind).gates
    gates = (
        _enough_targets(report, policy),
        _champion(report, policy, incomparable),
        *(_above(name, report, policy.metric) for name in policy.baselines),
        *(_within(gate, name, maximum, report) for gate, (name, maximum) in policy.limits.items()),
        *_behaviour(report.challenger.behaviour),
    )
    return Decision(gates)


def decide_release(kind: KindName, report: TwinReport) -> Decision:
    """Compare an archive to be released with its evaluated twin; see `boat.evaluation.twin`."""
    ours, twin = report.released, report.twin
    least = kinds.load(kind).least_agreement
    agrees = math.isfinite(report.agreement) and report.agreement >= least
    return Decision(
        (
            _not_less("events", ours.events, twin.events),
            _not_less("products", ours.products, twin.products),
            Gate(
                "newest event",
                math.nan,
                None,
                math.nan,
                ours.trained_until > twin.trained_until,
                f"Trained on events up to {ours.trained_until}, its evaluated twin up to {twin.trained_until}.",
            ),
            Gate(
                "agreement",
                report.agreement,
                None,
                least,
                agrees,
                f"{_distance('agreement', report.agreement, least)}: its answers must be similar to its twin's.",
            ),
            *_behaviour(report.behaviour),
        )
    )


def _not_less(name: str, ours: int, twin: int) -> Gate:
    text = f"Trained on {ours:,} {name}, its evaluated twin on {twin:,}."
    return Gate(name, ours, twin, twin, ours >= twin, text)


def _enough_targets(report: EvaluationReport, policy: GatePolicy) -> Gate:
    targets, limit = report.challenger.metric("targets"), float(policy.minimum_targets)
    passed = math.isfinite(targets) and targets >= limit
    text = f"{targets:.0f} targets on the test days, at least {limit:.0f} needed."
    return Gate("targets", targets, None, limit, passed, text)


def _champion(report: EvaluationReport, policy: GatePolicy, incomparable: str) -> Gate:
    name = policy.metric
    challenger = report.challenger.metric(name)
    if incomparable:
        return Gate("champion", challenger, None, math.nan, False, incomparable)
    if report.champion is None:
        passed = math.isfinite(challenger)
        text = f"There is no champion yet to compare {name} {challenger:.4f} with."
        return Gate("champion", challenger, None, 0.0, passed, text)
    champion = report.champion.metric(name)
    limit = champion * (1 - policy.tolerance)
    passed = _finite(challenger, champion) and challenger >= limit
    terms = f"the champion's {champion:.4f} less {policy.tolerance:.1%} is {limit:.4f}"
    return Gate("champion", challenger, champion, limit, passed, f"{_distance(name, challenger, limit)}: {terms}.")


def _above(baseline: str, report: EvaluationReport, name: str) -> Gate:
    challenger = report.challenger.metric(name)
    reference = report.baselines.get(baseline, _MISSING).metric(name)
    passed = _finite(challenger, reference) and challenger > reference
    text = f"{_distance(name, challenger, reference)}: the baseline {baseline} has {reference:.4f}."
    return Gate(baseline, challenger, reference, reference, passed, text)


def _within(gate: str, name: str, maximum: float, report: EvaluationReport) -> Gate:
    challenger = report.challenger.metric(name)
    passed = math.isfinite(challenger) and challenger <= maximum
    text = f"{_distance(name, challenger, maximum)}: at most {maximum:.4f} is allowed."
    return Gate(gate, challenger, None, maximum, passed, text)


def _behaviour(results: Sequence[BehaviourResult]) -> tuple[Gate, ...]:
    """Return a failed gate for each failed critical test, or one passed gate if all of them passed."""
    critical = [result for result in results if result.severity == "critical"]
    if not critical:
        text = "No critical behaviour test was run. Evaluate the model again."
        return (Gate(BEHAVIOUR, math.nan, None, 1.0, False, text),)
    failures = tuple(
        Gate(
            f"{BEHAVIOUR} {result.name}",
            math.nan if result.value is None else result.value,
            None,
            result.threshold,
            False,
            f"{result.summary}. {result.text}",
        )
        for result in critical
        if not result.passed
    )
    text = f"All {len(critical)} critical behaviour tests passed."
    return failures or (Gate(BEHAVIOUR, 1.0, None, 1.0, True, text),)


def _distance(name: str, value: float, limit: float) -> str:
    if not _finite(value, limit):
        return f"{name} cannot be compared, a metric is missing or not finite ({value:.4f} against {limit:.4f})"
    side = "above" if value > limit else "below"
    share = f" ({abs(value / limit - 1):.1%})" if abs(value) < 10 * limit else ""
    return f"{name} {value:.4f} is {abs(value - limit):.4f}{share} {side} the limit"


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
