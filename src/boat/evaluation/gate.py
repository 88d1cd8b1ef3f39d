"""The gates before a promotion: a challenger must not be worse than the champion and must beat the baselines."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from boat import kinds
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.report import Difference, EvaluationReport, ModelReport, jsonable
from boat.evaluation.twin import TwinReport
from boat.kinds import GatePolicy, KindName

BEHAVIOUR = "behaviour"
"""Prefix of the names of behaviour gates."""

_MISSING = ModelReport({})
_UNKNOWN = Difference(math.nan, math.nan, math.nan)


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


class Lift(NamedTuple):
    """The lift of a version that was checked before.

    Attributes:
        value: The lift, a finite number.
        promoted_at: Time of its promotion. `None` if it was not promoted.
    """

    value: float
    promoted_at: datetime | None


@dataclass(frozen=True)
class Decision:
    """The gates of one challenger.

    Attributes:
        gates: The conditions.
        lift: The challenger's lift over a baseline; NaN if it was not measured.
    """

    gates: tuple[Gate, ...]
    lift: float = math.nan

    @property
    def accepted(self) -> bool:
        """Return whether all gates passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def misbehaves(self) -> tuple[Gate, ...]:
        """Return the behaviour gates that failed."""
        return tuple(gate for gate in self.gates if gate.name.startswith(BEHAVIOUR) and not gate.passed)

    @property
    def table(self) -> list[dict[str, str]]:
        """Return a row for each gate."""
        return [
            {"gate": gate.name, "passed": "yes" if gate.passed else "NO", "description": gate.text}
            for gate in self.gates
        ]

    def to_json(self) -> str:
        """Return the gates as a JSON list. A figure that is not a finite number is null."""
        return json.dumps(jsonable([asdict(gate) for gate in self.gates]))

    @property
    def text(self) -> str:
        """Return one line: acceptance, or each failed gate with its distance to the limit."""
        refusals = [f"{gate.name}: {gate.text}" for gate in self.gates if not gate.passed]
        return "Refused. " + " ".join(refusals) if refusals else f"Accepted: all {len(self.gates)} gates passed."


def decide(
    kind: KindName,
    report: EvaluationReport,
    policy: GatePolicy | None = None,
    incomparable: str = "",
    earlier: Sequence[Lift] = (),
) -> Decision:
    """Compare a challenger with the champion and the baselines on the same test days.

    A metric that is missing or not a finite number never passes.

    Args:
        kind: Kind of the model.
        report: Its evaluation.
        policy: The conditions; by default the kind's own.
        incomparable: Why the report lacks the champion. Empty if it has the champion, or if there is none.
        earlier: Lifts of the versions that were checked before, oldest first.
    """
    policy = policy or kinds.load(kind).gates
    gates = (
        _at_least("targets", report, policy.minimum_targets),
        *([_at_least("buyers", report, policy.minimum_buyers)] if policy.minimum_buyers else []),
        _champion(report, policy, incomparable),
        *_slices(report, policy),
        *(_above(name, report, policy.metric) for name in policy.baselines),
        *([_lift(report, policy, earlier)] if policy.lift_over else []),
        *(_within(gate, name, maximum, report) for gate, (name, maximum) in policy.limits.items()),
        *_behaviour(report.challenger.behaviour, policy),
    )
    return Decision(gates, lift(report, policy))


def simpler_model(kind: KindName, report: EvaluationReport, decision: Decision) -> str | None:
    """Return the baseline to train instead of a first challenger that is refused only because baselines are better.

    Args:
        kind: Kind of the model.
        report: The challenger's evaluation.
        decision: The decision about it.

    Returns:
        The best baseline that can be trained; `None` if there is a champion, or if another gate refuses.
    """
    gates, models = kinds.load(kind).gates, kinds.load(kind).spaces
    failed = {gate.name for gate in decision.gates if not gate.passed}
    if report.champion or not failed or not failed <= set(gates.baselines):
        return None
    trainable = [name for name in gates.baselines if name in models]
    return max(trainable, key=lambda name: report.baselines[name].metric(gates.metric), default=None)


def lift(report: EvaluationReport, policy: GatePolicy) -> float:
    """Return the challenger's metric divided by that of the baseline of the policy, less 1; NaN if one is missing.

    Both learned from the same days, so the lift does not depend on how recent these days are. Lifts of versions that
    were tested on other days can be compared.
    """
    reference = report.baselines.get(policy.lift_over, _MISSING).metric(policy.metric)
    return report.challenger.metric(policy.metric) / reference - 1 if reference else math.nan


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
            *_behaviour(report.behaviour, kinds.load(kind).gates),
        )
    )


def _not_less(name: str, ours: int, twin: int) -> Gate:
    text = f"Trained on {ours:,} {name}, its evaluated twin on {twin:,}."
    return Gate(name, ours, twin, twin, ours >= twin, text)


def _at_least(name: str, report: EvaluationReport, minimum: int) -> Gate:
    count, limit = report.challenger.metric(name), float(minimum)
    passed = math.isfinite(count) and count >= limit
    return Gate(name, count, None, limit, passed, f"{count:.0f} {name} on the test days, at least {limit:.0f} needed.")


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
    difference = report.challenger.above_champion.get(name, _UNKNOWN)
    limit = champion * (1 - policy.margin)
    passed = _finite(challenger, champion, difference.low) and champion + difference.low >= limit
    text = (
        f"{name} {challenger:.4f}, the champion {champion:.4f}: {_bound(difference, policy.margin, limit - champion)}"
    )
    return Gate("champion", challenger, champion, limit, passed, text)


def _bound(difference: Difference, margin: float, bound: float) -> str:
    interval = f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})"
    return f"difference {interval}, allowed from {bound:+.4f} ({margin:.0%} of the champion's)."


def _slices(report: EvaluationReport, policy: GatePolicy) -> tuple[Gate, ...]:
    """Return a failed gate for each slice that is clearly worse than the champion's, or one passed gate."""
    name, gates, compared = policy.metric, [], 0
    for part in report.challenger.slices:
        difference, ours = part.above_champion.get(name), part.metrics.get(name, math.nan)
        if difference is None:
            continue
        compared += 1
        champion = ours - difference.value
        limit = champion * (1 - policy.slice_margin)
        if not champion + difference.high >= limit:
            text = f"{part.targets} targets, {_bound(difference, policy.slice_margin, limit - champion)}"
            gates.append(Gate(f"slice {part.by}: {part.name}", ours, champion, limit, False, text))
    if not compared:
        return ()
    text = f"None of {compared} segments is clearly more than {policy.slice_margin:.0%} worse than the champion's."
    return tuple(gates) or (Gate("slices", math.nan, None, math.nan, True, text),)


def _lift(report: EvaluationReport, policy: GatePolicy, earlier: Sequence[Lift]) -> Gate:
    """Compare the mean lift of the last versions with the best such mean at a promotion.

    A lift is measured on a few thousand targets. Means of some versions hide a slow loss less than single lifts do.
    """
    ours = lift(report, policy)
    lifts = np.array([*(entry.value for entry in earlier), ours])
    means = [float(lifts[max(end - policy.lift_versions, 0) : end].mean()) for end in range(1, len(lifts) + 1)]
    terms = f"{policy.metric} is {ours:+.1%} above {policy.lift_over}, and with the versions before {means[-1]:+.1%}"
    promoted = {entry.promoted_at: mean for entry, mean in zip(earlier, means, strict=False) if entry.promoted_at}
    if not promoted:
        text = f"{terms}. No version was promoted before."
        return Gate("lift", means[-1], None, math.nan, math.isfinite(ours), text)
    # The days end with the newest promotion: a lower lift is never accepted only because time passes.
    begin = max(promoted) - timedelta(days=policy.lift_days)
    best = max(mean for at, mean in promoted.items() if at >= begin)
    limit = (1 + best) * (1 - policy.lift_margin) - 1
    passed = math.isfinite(ours) and means[-1] >= limit
    text = f"{terms}. The best promoted version had {best:+.1%}; less {policy.lift_margin:.0%} is {limit:+.1%}."
    return Gate("lift", means[-1], best, limit, passed, text)


def _above(baseline: str, report: EvaluationReport, name: str) -> Gate:
    challenger = report.challenger.metric(name)
    if report.challenger.model == baseline:
        return Gate(baseline, challenger, challenger, challenger, True, f"This version is the baseline {baseline}.")
    reference = report.baselines.get(baseline, _MISSING).metric(name)
    passed = _finite(challenger, reference) and challenger > reference
    text = f"{_distance(name, challenger, reference)}: the baseline {baseline} has {reference:.4f}."
    return Gate(baseline, challenger, reference, reference, passed, text)


def _within(gate: str, name: str, maximum: float, report: EvaluationReport) -> Gate:
    challenger = report.challenger.metric(name)
    passed = math.isfinite(challenger) and challenger <= maximum
    text = f"{_distance(name, challenger, maximum)}: at most {maximum:.4f} is allowed."
    return Gate(gate, challenger, None, maximum, passed, text)


def _behaviour(results: Sequence[BehaviourResult], policy: GatePolicy) -> tuple[Gate, ...]:
    """Return a gate for each critical test that failed or was not tested, and one for those that passed."""
    critical = [result for result in results if result.severity == "critical"]
    if not critical:
        text = "No critical behaviour test was run. Evaluate the model again."
        return (Gate(BEHAVIOUR, math.nan, None, 1.0, False, text),)
    passed = [result for result in critical if result.verdict == "yes"]
    others = (
        Gate(
            f"{BEHAVIOUR} {result.name}",
            math.nan if result.value is None else result.value,
            None,
            result.threshold,
            result.passed and policy.untested == "accept",
            f"{result.summary}. {result.text}",
        )
        for result in critical
        if result.verdict != "yes"
    )
    text = f"{len(passed)} of {len(critical)} critical behaviour tests passed."
    return (*([Gate(BEHAVIOUR, math.nan, None, math.nan, True, text)] if passed else []), *others)


def _distance(name: str, value: float, limit: float) -> str:
    if not _finite(value, limit):
        return f"{name} cannot be compared, a metric is missing or not finite ({value:.4f} against {limit:.4f})"
    side = "above" if value > limit else "below"
    share = f" ({abs(value / limit - 1):.1%})" if abs(value) < 10 * limit else ""
    return f"{name} {value:.4f} is {abs(value - limit):.4f}{share} {side} the limit"


def _finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
