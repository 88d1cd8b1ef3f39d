"""The gate lets a challenger through that is good enough, and says by how much another is not."""

import math
from dataclasses import replace
from typing import Any

import pytest

from boat import kinds
from boat.evaluation.gate import Decision, decide

POLICY = kinds.load("recommend").gates
BEHAVED = {
    "name": "no_product_twice",
    "severity": "critical",
    "value": 0.0,
    "threshold": 0.0,
    "side": "at most",
    "passed": True,
    "text": "Twice is once too often.",
}


def recommend(challenger: float, champion: float | None = None, targets: float = 500) -> dict[str, Any]:
    return {
        "challenger": {"mrr_at_20": challenger, "targets": targets, "behaviour": [BEHAVED]},
        "champion": None if champion is None else {"mrr_at_20": champion},
        "popular": {"mrr_at_20": 0.02},
        "co_occurrence": {"mrr_at_20": 0.25},
    }


def intent(challenger: float, champion: float | None = None, ece: float = 0.02) -> dict[str, Any]:
    return {
        "challenger": {"pr_auc": challenger, "ece": ece, "targets": 500, "behaviour": [BEHAVED]},
        "champion": None if champion is None else {"pr_auc": champion},
        "base_rate": {"pr_auc": 0.05},
    }


def refusing(decision: Decision) -> list[str]:
    return [gate.name for gate in decision.gates if not gate.passed]


def test_a_first_model_better_than_the_baselines_is_accepted() -> None:
    decision = decide("recommend", recommend(0.30))
    assert decision.accepted
    assert [gate.name for gate in decision.gates] == ["targets", "champion", "popular", "co_occurrence", "behaviour"]
    assert decision.text == "Accepted: all 5 gates passed."


def test_a_challenger_within_the_tolerance_of_the_champion_is_accepted() -> None:
    assert decide("recommend", recommend(0.295, champion=0.30)).accepted


def test_a_challenger_below_the_tolerance_is_refused_with_by_how_much() -> None:
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


def test_too_few_targets_say_nothing() -> None:
    decision = decide("recommend", recommend(0.30, targets=99))
    assert refusing(decision) == ["targets"]
    assert "99 targets on the test days, at least 100 needed" in decision.text
    assert decide("recommend", recommend(0.30, targets=99), replace(POLICY, minimum_targets=50)).accepted


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.4"])
def test_a_figure_that_is_no_finite_number_never_passes(value: Any) -> None:
    for model in ("challenger", "champion", "popular", "co_occurrence"):
        metrics = recommend(0.30, champion=0.29)
        metrics[model]["mrr_at_20"] = value
        assert not decide("recommend", metrics).accepted, model
    assert refusing(decide("recommend", recommend(0.30, targets=math.nan))) == ["targets"]


def test_a_missing_baseline_is_not_taken_for_a_beaten_one() -> None:
    metrics = recommend(0.30)
    del metrics["co_occurrence"]
    decision = decide("recommend", metrics)
    assert refusing(decision) == ["co_occurrence"]
    assert "missing or not finite" in decision.text


def test_the_policy_names_the_figure_that_decides() -> None:
    metrics = recommend(0.10, champion=0.30)
    for model, hit_rate in {"challenger": 0.7, "champion": 0.6, "popular": 0.1, "co_occurrence": 0.5}.items():
        metrics[model]["hr_at_20"] = hit_rate
    assert not decide("recommend", metrics).accepted
    assert decide("recommend", metrics, replace(POLICY, metric="hr_at_20")).accepted


def test_an_intent_model_better_than_the_base_rate_and_calibrated_is_accepted() -> None:
    decision = decide("intent", intent(0.30, champion=0.30))
    assert decision.accepted
    assert [gate.name for gate in decision.gates] == ["targets", "champion", "base_rate", "calibration", "behaviour"]


@pytest.mark.parametrize(
    ("metrics", "gate"),
    [
        (intent(0.29, champion=0.30), "champion"),
        (intent(0.05), "base_rate"),
        (intent(0.30, ece=0.11), "calibration"),
        (intent(0.30, ece=math.nan), "calibration"),
    ],
)
def test_an_intent_model_is_refused_by_the_gate_it_fails(metrics: dict[str, Any], gate: str) -> None:
    assert refusing(decide("intent", metrics)) == [gate]


def test_a_critical_test_of_behaviour_refuses_by_its_name() -> None:
    metrics = recommend(0.30)
    metrics["challenger"]["behaviour"] = [BEHAVED, BEHAVED | {"value": 0.25, "passed": False}]
    decision = decide("recommend", metrics)
    assert refusing(decision) == ["behaviour no_product_twice"]
    assert decision.misbehaves == decision.gates[-1:]
    assert decision.text == "Refused. behaviour no_product_twice: 0.25, at most 0 wanted. Twice is once too often."


def test_a_warning_of_behaviour_refuses_nothing() -> None:
    metrics = intent(0.30)
    metrics["challenger"]["behaviour"] = [BEHAVED, BEHAVED | {"severity": "warning", "value": None, "passed": False}]
    assert decide("intent", metrics).accepted


def test_a_model_whose_behaviour_nobody_tested_is_refused() -> None:
    metrics = recommend(0.30)
    del metrics["challenger"]["behaviour"]
    assert refusing(decide("recommend", metrics)) == ["behaviour"]
