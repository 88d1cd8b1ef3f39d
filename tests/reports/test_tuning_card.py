"""The page of a tuning shows its trials, the best one, and the importance of the parameters."""

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
    """Return a study with six complete trials, a pruned and a failed one. The metric depends on the sample size."""
    study = optuna.create_study(direction="maximize")
    usual = {**defaults("recommend", SPACE), "sample": 500}
    for number in range(6):
        params = {**usual, "sample": 500 * (number + 1), "window": usual["window"] + number % 2}
        value = 0.3 - abs(math.log(params["sample"] / 1500)) / 10
        study.add_trial(
            create_trial(value=value, params=params, distributions=SPACE, user_attrs={"seconds": 10.0, "dollars": 0.05})
        )
    study.add_trial(
        create_trial(state=TrialState.PRUNED, params=usual, distributions=SPACE, intermediate_values={1: 0.01, 2: 0.02})
    )
    error = {"error": "Job 'trial' ended with exit code 3."}
    study.add_trial(create_trial(state=TrialState.FAIL, params=usual, distributions=SPACE, user_attrs=error))
    return study


def test_the_best_trial_is_shown_with_its_parameters_and_compared_with_the_defaults(study: Study) -> None:
    text = tuning_card(study, TASK).markdown()
    assert "Trial 2 has the best validation mrr: 0.3000; with the defaults it is 0.1901." in text
    assert "| sample | 1500 |" in text
    window = defaults("recommend", SPACE)["window"]
    assert f"| 2 | 0.3000 | 1500 | 100 | {window} | 10 |" in text


def test_failed_and_pruned_trials_are_listed(study: Study) -> None:
    text = tuning_card(study, TASK).markdown()
    assert "failed: Job 'trial' ended with exit code 3." in text
    assert "pruned" in text
    assert "8 trials, 6 complete, 60 s of training, 0.30 USD." in text


def test_history_and_importance_are_drawn_after_enough_trials(study: Study) -> None:
    card = tuning_card(study, TASK)
    pictures = {section.title: section.picture for section in card.sections if section.picture}
    assert list(pictures) == ["History", "Importance of parameters"]
    assert "pruned" in pictures["History"]
    shares = re.findall(r">(sample|window|neighbours|\d+%)<", pictures["Importance of parameters"])
    assert shares[0] == "sample"
    assert shares[-1] == "0%"  # the number of neighbours was never varied

    empty = optuna.create_study(direction="maximize")
    empty.ask(SPACE)
    early = tuning_card(empty, TASK)
    assert [section.title for section in early.sections] == ["Trials"]
    assert "running" in early.html()
    assert "stopped at the end of the time" in tuning_card(empty, TASK, is_over=True).html()
