"""The page of a search says what was tried, what was found, and what mattered."""

import math
import re

import optuna
import pytest
from optuna import Study
from optuna.trial import TrialState, create_trial

from boat.recommend.parameters import RecommendParameters
from boat.reports.tuning_card import tuning_card
from boat.tuning.space import defaults
from boat.tuning.study import TuningTask

PARAMETERS = RecommendParameters(model="vmis_knn", seed=1)
TASK = TuningTask("recommend", PARAMETERS, frozenset(), "/snapshots/1", "ab12", "/store")
SPACE = dict(TASK.space)


@pytest.fixture
def study() -> Study:
    """Six trials to their end, of which the sample size decides; one that was ended early, one that failed."""
    made = optuna.create_study(direction="maximize")
    usual = {**defaults("recommend", SPACE), "sample": 500}
    for number in range(6):
        params = {**usual, "sample": 500 * (number + 1), "window": usual["window"] + number % 2}
        value = 0.3 - abs(math.log(params["sample"] / 1500)) / 10
        made.add_trial(
            create_trial(value=value, params=params, distributions=SPACE, user_attrs={"seconds": 10.0, "dollars": 0.05})
        )
    made.add_trial(
        create_trial(state=TrialState.PRUNED, params=usual, distributions=SPACE, intermediate_values={1: 0.01, 2: 0.02})
    )
    error = {"error": "Job 'trial' ended with exit code 3."}
    made.add_trial(create_trial(state=TrialState.FAIL, params=usual, distributions=SPACE, user_attrs=error))
    return made


def test_the_best_trial_stands_first_beside_the_defaults_and_with_its_parameters(study: Study) -> None:
    text = tuning_card(study, TASK).markdown()
    assert "Trial 2 has the best validation mrr: 0.3000; with the defaults it is 0.1901." in text
    assert "| sample | 1500 |" in text
    window = defaults("recommend", SPACE)["window"]
    assert f"| 2 | 0.3000 | 1500 | 100 | {window} | 10 |" in text


def test_what_failed_and_what_was_ended_early_is_shown_with_the_reason(study: Study) -> None:
    text = tuning_card(study, TASK).markdown()
    assert "failed: Job 'trial' ended with exit code 3." in text
    assert "pruned" in text
    assert "8 trials, 6 complete, 60 s of training, 0.30 USD." in text


def test_history_and_importance_are_drawn_once_there_is_something_to_draw(study: Study) -> None:
    card = tuning_card(study, TASK)
    drawn = {section.title: section.picture for section in card.sections if section.picture}
    assert list(drawn) == ["History", "Importance of parameters"]
    assert "ended early" in drawn["History"]
    shares = re.findall(r">(sample|window|neighbours|\d+%)<", drawn["Importance of parameters"])
    assert shares[0] == "sample"
    assert shares[-1] == "0%"  # the neighbours, whose number was never varied

    begun = optuna.create_study(direction="maximize")
    begun.ask(SPACE)
    early = tuning_card(begun, TASK)
    assert [section.title for section in early.sections] == ["Trials"]
    assert "running" in early.html()
    assert "stopped at the end of the time" in tuning_card(begun, TASK, is_over=True).html()
