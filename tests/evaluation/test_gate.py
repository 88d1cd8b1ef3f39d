"""The gates accept a challenger that is good enough, and state how far another one is from their limits."""

import math
from dataclasses import replace

import pytest

from boat import kinds
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.gate import Decision, decide
from boat.evaluation.report import EvaluationReport, ModelReport

POLICY = kinds.load("recommend").gates
PASSED = BehaviourResult("no_product_twice", "critical", 0.0, 0.0, "at most", True, "A repeated product wastes space.")


def _report(challenger: ModelReport, champion: float | None, metric: str, **baselines: float) -> EvaluationReport:
    return EvaluationReport(
        challenger,
        None if champion is None else ModelReport({metric: champion}),
        {name: ModelReport({metric: value}) for name, value in baselines.items()},
    )


def recommend(challenger: float, champion: float | None = None, targets: float = 500) -> EvaluationReport:
    model = ModelReport({"mrr_at_20": challenger, "targets": targets}, behaviour=(PASSED,))
    return _report(model, champion, "mrr_at_20", popular=0.02, co_occurrence=0.25)


def intent(challenger: float, champion: float | None = None, ece: float = 0.02) -> EvaluationReport:
    model = ModelReport({"pr_auc": challenger, "ece": ece, "targets": 500}, behaviour=(PASSED,))
    return _report(model, champion, "pr_auc", base_rate=0.05)


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
    assert [gate.name for gate in decision.gates] == ["targets", "champion", "popular", "co_occurrence", "behaviour"]
    assert decision.text == "Accepted: all 5 gates passed."


def test_a_challenger_within_the_tolerance_of_the_champion_is_accepted() -> None:
    assert decide("recommend", recommend(0.295, champion=0.30)).accepted


def test_a_refusal_states_the_distance_to_the_limit() -> None:
    decision = decide("recommend", recommend(0.27, champion=0.30))
    assert refusing(decision) == ["champion"]
    assert decision.text == (
        "Refused. champion: mrr_at_20 0.2700 is 0.0240 (8.2%) below the limit: "
        "the champion's 0.3000 less 2.0% is 0.2940."
    )


def test_a_challenger_must_beat_every_baseline() -> None:
    decision = decide("recommend", recommend(0.25))
    assert refusing(decision) == ["co_occurrence"]
    assert "the baseline co_occurrence has 0.2500" in decision.text
    assert refusing(decide("recommend", recommend(0.01))) == ["popular", "co_occurrence"]


def test_a_challenger_with_too_few_targets_is_refused() -> None:
    decision = decide("recommend", recommend(0.30, targets=99))
    assert refusing(decision) == ["targets"]
    assert "99 targets on the test days, at least 100 needed" in decision.text
    assert decide("recommend", recommend(0.30, targets=99), replace(POLICY, minimum_targets=50)).accepted


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("model", ["challenger", "champion", "popular", "co_occurrence"])
def test_a_metric_that_is_not_finite_never_passes(value: float, model: str) -> None:
    report = recommend(0.30, champion=0.29)
    assert decide("recommend", report).accepted
    assert not decide("recommend", with_metric(report, model, mrr_at_20=value)).accepted


def test_a_challenger_with_an_unknown_number_of_targets_is_refused() -> None:
    assert refusing(decide("recommend", recommend(0.30, targets=math.nan))) == ["targets"]


def test_a_missing_baseline_is_not_beaten() -> None:
    report = recommend(0.30)
    decision = decide("recommend", replace(report, baselines={"popular": report.baselines["popular"]}))
    assert refusing(decision) == ["co_occurrence"]
    assert "missing or not finite" in decision.text


def test_the_policy_names_the_metric_that_decides() -> None:
    report = recommend(0.10, champion=0.30)
    for model, hit_rate in {"challenger": 0.7, "champion": 0.6, "popular": 0.1, "co_occurrence": 0.5}.items():
        report = with_metric(report, model, hr_at_20=hit_rate)
    assert not decide("recommend", report).accepted
    assert decide("recommend", report, replace(POLICY, metric="hr_at_20")).accepted


def test_an_intent_model_better_than_the_base_rate_and_calibrated_is_accepted() -> None:
    decision = decide("intent", intent(0.30, champion=0.30))
    assert decision.accepted
    assert [gate.name for gate in decision.gates] == ["targets", "champion", "base_rate", "calibration", "behaviour"]


@pytest.mark.parametrize(
    ("report", "gate"),
    [
        (intent(0.29, champion=0.30), "champion"),
        (intent(0.05), "base_rate"),
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


def test_a_model_without_behaviour_tests_is_refused() -> None:
    assert refusing(decide("recommend", with_behaviour(recommend(0.30)))) == ["behaviour"]
