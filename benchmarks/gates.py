"""Simulate nights of challengers that are all a little worse, equal or better, and count which ones the gates accept.

A simulated model hits the targets of the best possible model with a chance of its quality, and a tenth of its results
are those of other targets, so that two trainings with the same quality differ. VMIS-kNN has a quality of 0.86. Every
night has new targets. The decision is that of `boat.evaluation.gate` with the policy of recommenders.

    python benchmarks/gates.py [--nights 60] [--targets 20000] [--seeds 10]
"""

import argparse
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

import numpy as np

from bars import at_most, conclude
from boat import kinds, metrics
from boat.evaluation import gate
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.gate import Lift
from boat.evaluation.report import Difference, EvaluationReport, ModelReport

IN_A_ROW, LOSS = 5, 0.03
"""Limits: worse challengers that are accepted one after the other, and the share of quality lost in all nights."""
_METRIC, _BASELINE = "mrr_at_20", 0.86
_BEHAVES = BehaviourResult("simulated", "critical", 1.0, 1.0, "at least", True, "")


@dataclass(frozen=True)
class Scenario:
    """A series of nights.

    Attributes:
        name: Its name.
        change: Change of quality of each challenger relative to the champion.
        ageing: Share by which a champion is worse on the next night, because it does not know the newest day.
        with_lift: Whether the gate on the lift is used.
    """

    name: str
    change: float
    ageing: float = 0.0
    with_lift: bool = True


SCENARIOS = (
    Scenario("1 % worse, without the gate on the lift", -0.01, with_lift=False),
    Scenario("1 % worse", -0.01),
    Scenario("1 % worse, champion ages by 2 % a night", -0.01, ageing=0.02),
    Scenario("equal", 0.0),
    Scenario("equal, champion ages by 2 % a night", 0.0, ageing=0.02),
    Scenario("1 % better", 0.01),
)


@dataclass(frozen=True)
class Outcome:
    """The result of a series of nights: which challengers were accepted, and the last champion's quality."""

    accepted: list[bool]
    quality: float

    @property
    def in_a_row(self) -> int:
        """Return the longest series of accepted challengers."""
        return max((len(list(run)) for accepted, run in groupby(self.accepted) if accepted), default=0)


def evaluate(challenger: float, champion: float | None, targets: int, draw: np.random.Generator) -> EvaluationReport:
    """Return the evaluation of a challenger on new targets.

    Args:
        challenger: Its quality.
        champion: Quality of the champion; `None` on the first night.
        targets: Number of targets. A session has three.
        draw: Random numbers.
    """
    session = np.arange(targets) // 3
    possible = np.where(draw.random(targets) < 0.7, 1 / draw.geometric(0.3, targets), 0.0)

    def values(quality: float) -> np.ndarray:
        others = np.where(draw.random(targets) < 0.1, draw.permutation(possible), possible)
        return others * (draw.random(targets) < quality)

    ours, baseline = values(challenger), values(_BASELINE)
    difference: dict[str, Difference] = {}
    if champion is not None:
        gap = ours - values(champion)
        ((low, high),) = metrics.Draws(session).intervals(gap[:, None])
        difference[_METRIC] = Difference(float(gap.mean()), low, high)
    figures = {_METRIC: float(ours.mean()), "targets": float(targets)}
    simple = {name: ModelReport({_METRIC: float(baseline.mean()) / 2}) for name in ("popular", "co_occurrence")}
    return EvaluationReport(
        ModelReport(figures, above_champion=difference, behaviour=(_BEHAVES,)),
        ModelReport({_METRIC: figures[_METRIC] - difference[_METRIC].value}) if difference else None,
        {**simple, "vmis_knn": ModelReport({_METRIC: float(baseline.mean())})},
    )


def simulate(scenario: Scenario, nights: int, targets: int, seed: int) -> Outcome:
    """Let the gates decide about a challenger each night. The first one has the quality 1 and no champion."""
    draw = np.random.default_rng(seed)
    policy = kinds.load("recommend").gates
    if not scenario.with_lift:
        policy = replace(policy, lift_over="")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    quality, age, lifts, accepted = 1.0, 0, list[Lift](), list[bool]()
    for night in range(nights + 1):
        champion = quality * (1 - scenario.ageing) ** age if night else None
        challenger = quality * (1 + scenario.change) if night else quality
        report = evaluate(challenger, champion, targets, draw)
        decision = gate.decide("recommend", report, policy, earlier=lifts)
        age += 1
        if decision.accepted:
            quality, age = challenger, 1
        lifts.append(Lift(decision.lift, now + timedelta(days=night) if decision.accepted else None))
        accepted.append(decision.accepted)
    return Outcome(accepted[1:], quality)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=60)
    parser.add_argument("--targets", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    figures: dict[str, float | str] = {}
    worst_row, worst_loss = 0, 0.0
    for scenario in SCENARIOS:
        outcomes = [simulate(scenario, options.nights, options.targets, seed) for seed in range(options.seeds)]
        counts = [sum(outcome.accepted) for outcome in outcomes]
        row = max(outcome.in_a_row for outcome in outcomes)
        changes = [outcome.quality - 1 for outcome in outcomes]
        if scenario.change < 0 and scenario.with_lift:
            worst_row, worst_loss = max(worst_row, row), max(worst_loss, -float(np.mean(changes)))
        label = "".join(letter if letter.isalnum() else "_" for letter in scenario.name.replace(" %", ""))
        figures |= {f"{label}_accepted": float(np.mean(counts)), f"{label}_in_a_row": row}
        figures[f"{label}_change"] = round(float(np.mean(changes)), 4)
        print(
            f"{scenario.name:42} accepted {np.mean(counts):5.1f} of {options.nights}, at most {row:2} in a row, "
            f"quality {np.mean(changes):+.1%} ({min(changes):+.1%} to {max(changes):+.1%})",
            file=sys.stderr,
        )
    bars = (at_most("in_a_row", worst_row, IN_A_ROW), at_most("loss", round(worst_loss, 4), LOSS))
    return conclude("gates", figures, *bars)


if __name__ == "__main__":
    sys.exit(main())
