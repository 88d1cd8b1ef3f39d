"""The gates accept a challenger that is good enough, and state how far another one is from their limits."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from boat import kinds
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.gate import Decision, Lift, decide, simpler_model
from boat.evaluation.report import Difference, EvaluationReport, ModelReport, Slice
from boat.kinds import KindName

POLICY = kinds.load("recommend").gates
PASSED = BehaviourResult("no_product_twice", "critical", 0.0, 0.0, "at most", True, "A repeated product wastes space.")


def _report(challenger: ModelReport, champion: float | None, metric: str, **baselines: float) -> EvaluationReport:
    """Return a report. The interval of the difference to the champion is 0.004 wide."""
    gap = challenger.metric(metric) - (champion or 0)
    differences = {metric: Difference(gap, gap - 0.002, gap + 0.002)} if champion is not None else {}
    return EvaluationReport(
        replace(challenger, above_champion=differences),
        None if champion is None else ModelReport({metric: champion}),
        {name: ModelReport({metric: value}) for name, value in baselines.items()},
    )


def recommend(challenger: float, champion: float | None = None, targets: float = 500) -> EvaluationReport:
    model = ModelReport({"mrr_at_20": challenger, "targets": targets}, behaviour=(PASSED,))
    return _report(model, champion, "mrr_at_20", popular=0.02, co_occurrence=0.25, vmis_knn=0.26)


def intent(challenger: float, champion: float | None = None, ece: float = 0.02) -> EvaluationReport:
    model = ModelReport({"pr_auc": challenger, "ece": ece, "targets": 500, "buyers": 30}, behaviour=(PASSED,))
    return _report(model, champion, "pr_auc", base_rate=0.05, logistic=0.2)


def with_slice(report: EvaluationReport, value: float, low: float, high: float) -> EvaluationReport:
    """Return the report with a slice in which the champion has 0.2 and the challenger differs from it."""
    part = Slice("popularity", "rare", 80, {"mrr_at_20": 0.2 + value}, {"mrr_at_20": Difference(value, low, high)})
    return replace(report, challenger=replace(report.challenger, slices=(part,)))


def with_metric(report: EvaluationReport, model: str, **metrics: float) -> EvaluationReport:
    """Return the report with other metrics of one model."""
    changed = replace(report.models()[model], metrics={**report.models()[model].metrics, **metrics})
    if model in ("challenger", "champion"):
        return replace(report, **{model: changed})
    return replace(report, baselines={**report.baselines, model: changed})


def with_behaviour(report: EvaluationReport, *results: BehaviourResult) -> EvaluationReport:
    return replace(report, challenger=replace(report.challenger, behaviour=results))


def refusing(decision: Decision) -> list[str]:
    return [gate.name for gate in decision.gates if not gate.passed]


def test_a_first_model_better_than_the_baselines_is_accepted() -> None:
    decision = decide("recommend", recommend(0.30))
    assert decision.accepted
    names = [gate.name for gate in decision.gates]
    assert names == ["targets", "champion", "popular", "co_occurrence", "vmis_knn", "lift", "behaviour"]
    assert decision.text == "Accepted: all 7 gates passed."
    assert decision.lift == pytest.approx(0.30 / 0.26 - 1)


def test_a_challenger_is_accepted_if_the_interval_of_its_difference_is_above_the_margin() -> None:
    assert decide("recommend", recommend(0.30, champion=0.30)).accepted  # a tie
    assert decide("recommend", recommend(0.2872, champion=0.30)).accepted
    assert refusing(decide("recommend", recommend(0.2868, champion=0.30))) == ["champion"]
    assert decide("recommend", recommend(0.2868, champion=0.30), replace(POLICY, margin=0.06)).accepted


def test_a_refusal_states_the_difference_and_the_limit() -> None:
    decision = decide("recommend", recommend(0.27, champion=0.30))
    assert refusing(decision) == ["champion"]
    assert decision.text == (
        "Refused. champion: mrr_at_20 0.2700, the champion 0.3000: "
        "difference -0.0300 (-0.0320 to -0.0280), allowed from -0.0150 (5% of the champion's)."
    )


def test_a_challenger_without_a_difference_to_its_champion_is_refused() -> None:
    report = recommend(0.30, champion=0.30)
    unknown = replace(report, challenger=replace(report.challenger, above_champion={}))
    assert refusing(decide("recommend", unknown)) == ["champion"]


def test_a_slice_is_refused_only_if_its_whole_interval_is_below_the_margin() -> None:
    report = recommend(0.30, champion=0.30)
    decision = decide("recommend", with_slice(report, -0.06, -0.08, -0.05))
    assert refusing(decision) == ["slice popularity: rare"]
    assert "80 targets, difference -0.0600 (-0.0800 to -0.0500), allowed from -0.0400" in decision.text
    uncertain = decide("recommend", with_slice(report, -0.06, -0.1, -0.03))
    assert uncertain.accepted
    assert "None of 1 segments is clearly more than 20% worse" in " ".join(gate.text for gate in uncertain.gates)


FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_mean_lift_must_be_near_that_of_the_best_promoted_version() -> None:
    lift = 0.30 / 0.26 - 1
    promoted = [Lift(lift, FIRST)] * 3
    assert decide("recommend", recommend(0.30), earlier=promoted).accepted
    assert decide("recommend", recommend(0.284), earlier=promoted).accepted  # a third of 5 % less
    decision = decide("recommend", recommend(0.280), earlier=promoted)
    assert refusing(decision) == ["lift"]
    assert (
        "mrr_at_20 is +7.7% above vmis_knn, and with the versions before +12.8%. "
        "The best promoted version had +15.4%; less 2% is +13.1%." in decision.text
    )
    # After refusals the mean has only low lifts, so that the same challenger stays refused.
    refused = [*promoted, Lift(0.11, None), Lift(0.11, None)]
    assert refusing(decide("recommend", recommend(0.291), earlier=refused)) == ["lift"]


def test_the_lift_is_compared_with_the_last_days_before_the_newest_promotion() -> None:
    days = {0: 0.5, 40: 0.2, 60: 0.1}
    earlier = [Lift(value, FIRST + timedelta(days=day)) for day, value in days.items()]

    def reference(lift_days: int) -> float | None:
        policy = replace(POLICY, lift_days=lift_days, lift_versions=1)
        gates = decide("recommend", recommend(0.30), policy, earlier=earlier).gates
        return next(gate.reference for gate in gates if gate.name == "lift")

    assert reference(30) == pytest.approx(0.2)
    assert reference(60) == pytest.approx(0.5)


@pytest.mark.parametrize("ageing", [0.0, 0.02])
def test_quality_does_not_drift_down(ageing: float) -> None:
    """Sixty challengers are each 1 % worse than the champion, also if it looks worse because it ages."""
    champion, earlier, accepted = 0.40, [Lift(0.40 / 0.26 - 1, FIRST)], []
    for night in range(1, 61):
        report = recommend(0.99 * champion, champion=(1 - ageing) * champion)
        decision = decide("recommend", report, earlier=earlier)
        accepted.append(decision.accepted)
        earlier.append(Lift(decision.lift, FIRST + timedelta(days=night) if decision.accepted else None))
        if decision.accepted:
            champion *= 0.99
    assert 0 < sum(accepted) <= 5
    assert champion >= 0.97 * 0.40


def test_a_challenger_must_beat_every_baseline() -> None:
    decision = decide("recommend", recommend(0.25))
    assert refusing(decision) == ["co_occurrence", "vmis_knn"]
    assert "the baseline co_occurrence has 0.2500" in decision.text
    assert refusing(decide("recommend", recommend(0.01))) == ["popular", "co_occurrence", "vmis_knn"]


def test_a_baseline_need_not_beat_itself() -> None:
    report = recommend(0.26)
    assert refusing(decide("recommend", report)) == ["vmis_knn"]
    decision = decide("recommend", replace(report, challenger=replace(report.challenger, model="vmis_knn")))
    assert decision.accepted
    assert decision.lift == 0


def test_a_challenger_with_too_few_targets_is_refused() -> None:
    decision = decide("recommend", recommend(0.30, targets=99))
    assert refusing(decision) == ["targets"]
    assert "99 targets on the test days, at least 100 needed" in decision.text
    assert decide("recommend", recommend(0.30, targets=99), replace(POLICY, minimum_targets=50)).accepted


def test_the_best_baseline_replaces_a_first_model_that_only_baselines_refuse() -> None:
    def simpler(kind: KindName, report: EvaluationReport) -> str | None:
        return simpler_model(kind, report, decide(kind, report))

    assert simpler("recommend", recommend(0.255)) == "vmis_knn"
    assert simpler("recommend", with_metric(recommend(0.01), "co_occurrence", mrr_at_20=0.3)) == "co_occurrence"
    assert simpler("intent", intent(0.01)) == "logistic"
    assert simpler("recommend", recommend(0.30)) is None
    assert simpler("recommend", recommend(0.255, champion=0.255)) is None
    assert simpler("recommend", recommend(0.255, targets=99)) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("model", ["challenger", "champion", "popular", "co_occurrence", "vmis_knn"])
def test_a_metric_that_is_not_finite_never_passes(value: float, model: str) -> None:
    report = recommend(0.30, champion=0.29)
    assert decide("recommend", report).accepted
    assert not decide("recommend", with_metric(report, model, mrr_at_20=value)).accepted


def test_a_challenger_with_an_unknown_number_of_targets_is_refused() -> None:
    assert refusing(decide("recommend", recommend(0.30, targets=math.nan))) == ["targets"]


def test_a_missing_baseline_is_not_beaten() -> None:
    report = recommend(0.30)
    decision = decide("recommend", replace(report, baselines={"popular": report.baselines["popular"]}))
    assert refusing(decision) == ["co_occurrence", "vmis_knn", "lift"]
    assert "missing or not finite" in decision.text


def test_the_policy_names_the_metric_that_decides() -> None:
    report = recommend(0.10, champion=0.30)
    rates = {"challenger": 0.7, "champion": 0.6, "popular": 0.1, "co_occurrence": 0.5, "vmis_knn": 0.6}
    for model, hit_rate in rates.items():
        report = with_metric(report, model, hr_at_20=hit_rate)
    differences = {**report.challenger.above_champion, "hr_at_20": Difference(0.1, 0.08, 0.12)}
    report = replace(report, challenger=replace(report.challenger, above_champion=differences))
    assert not decide("recommend", report).accepted
    assert decide("recommend", report, replace(POLICY, metric="hr_at_20")).accepted


def test_an_intent_model_better_than_the_baselines_and_calibrated_is_accepted() -> None:
    decision = decide("intent", intent(0.30, champion=0.30))
    assert decision.accepted
    names = [gate.name for gate in decision.gates]
    assert names == ["targets", "buyers", "champion", "base_rate", "logistic", "lift", "calibration", "behaviour"]


@pytest.mark.parametrize(
    ("report", "gate"),
    [
        (intent(0.26, champion=0.30), "champion"),
        (intent(0.15), "logistic"),
        (with_metric(intent(0.30), "challenger", buyers=29), "buyers"),
        (with_metric(intent(0.30), "base_rate", pr_auc=0.30), "base_rate"),
        (intent(0.30, ece=0.11), "calibration"),
        (intent(0.30, ece=math.nan), "calibration"),
    ],
)
def test_an_intent_model_is_refused_by_the_gate_it_fails(report: EvaluationReport, gate: str) -> None:
    assert refusing(decide("intent", report)) == [gate]


def test_a_failed_critical_behaviour_test_refuses_by_its_name() -> None:
    failed = replace(PASSED, value=0.25, passed=False)
    decision = decide("recommend", with_behaviour(recommend(0.30), PASSED, failed))
    assert refusing(decision) == ["behaviour no_product_twice"]
    assert decision.misbehaves == decision.gates[-1:]
    assert decision.text == (
        "Refused. behaviour no_product_twice: 0.25, required: at most 0. A repeated product wastes space."
    )


def test_a_failed_warning_refuses_nothing() -> None:
    warning = replace(PASSED, severity="warning", value=None, passed=False)
    assert decide("intent", with_behaviour(intent(0.30), PASSED, warning)).accepted


def test_an_untested_behaviour_is_decided_by_the_policy() -> None:
    untested = replace(PASSED, name="the_session_matters", value=None)
    report = with_behaviour(recommend(0.30), PASSED, untested)
    decision = decide("recommend", report)
    assert decision.accepted
    assert "not tested, required: at most 0" in decision.gates[-1].text
    assert "1 of 2 critical behaviour tests passed." in decision.gates[-2].text
    assert refusing(decide("recommend", report, replace(POLICY, untested="refuse"))) == [
        "behaviour the_session_matters"
    ]


def test_gates_are_stored_as_json() -> None:
    rows = json.loads(decide("recommend", recommend(0.30, champion=0.29)).to_json())
    champion = next(row for row in rows if row["name"] == "champion")
    assert (champion["challenger"], champion["reference"], champion["passed"]) == (0.30, 0.29, True)
    assert rows[-1]["limit"] is None  # a gate without a limit


def test_a_model_without_behaviour_tests_is_refused() -> None:
    assert refusing(decide("recommend", with_behaviour(recommend(0.30)))) == ["behaviour"]
