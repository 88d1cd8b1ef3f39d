"""The page of a tuning: its trials, the best of them, and the importance of the parameters.

Optuna's own matplotlib plots change the style of the whole process and keep their figures open.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from boat.render.cards import Card, Section
from boat.render.charts import shares_svg, trials_svg
from boat.tuning.space import defaults
from boat.tuning.study import TuningTask, best

_ROWS = 10
_STATES: Mapping[TrialState, str] = {
    TrialState.PRUNED: "pruned",
    TrialState.WAITING: "next",
}
_FEWEST_TRIALS = 4  # for the importance of parameters


def tuning_card(study: Study, task: TuningTask, *, is_over: bool = False) -> Card:
    """Return the card of a tuning, during the tuning or at its end."""
    trial = best(study)
    metric = task.metric.replace("_", " ")
    sections = []
    if trial is not None:
        text = f"Trial {trial.number} has the best {metric}: {trial.value:.4f}{_compared_with_defaults(study, task)}."
        rows = [("Parameter", "Value"), *((name, _number(value)) for name, value in trial.params.items())]
        sections = [Section("Best trial", text, rows), Section("History", picture=_history(study, metric))]
        importances = _importances(study)
        if importances:
            text = f"Share of each parameter in the variance of {metric} (fANOVA over the trials)."
            sections.append(Section("Importance of parameters", text, picture=shares_svg(importances)))
    sections.append(Section("Trials", _summary(study), _table(study, task, is_over)))
    return Card(f"Tuning of {task.kind}", f"{task.study}: snapshot {task.digest[:12]}.", tuple(sections))


def write_page(card: Card, study: Study, folder: Path) -> Path:
    """Write the page of a tuning to `folder/tuning/STUDY.html`; returns that path."""
    path = folder / "tuning" / f"{study.study_name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.html(), encoding="utf-8")
    return path


def _compared_with_defaults(study: Study, task: TuningTask) -> str:
    parameters = defaults(task.kind, task.space)
    values = [trial.value for trial in study.trials if _complete(trial) and trial.params == parameters]
    return f"; with the defaults it is {values[0]:.4f}" if values else ""


def _history(study: Study, metric: str) -> str:
    falls = study.direction == StudyDirection.MINIMIZE
    complete = {trial.number: trial.value for trial in study.trials if trial.value is not None and _complete(trial)}
    pruned = {
        trial.number: trial.intermediate_values[max(trial.intermediate_values)]
        for trial in study.trials
        if trial.state == TrialState.PRUNED and trial.intermediate_values
    }
    return trials_svg(complete, pruned, metric, falls=falls)


def _importances(study: Study) -> Mapping[str, float]:
    """Return the importance of each parameter; empty if there are too few trials, or if all have the same metric."""
    values = {trial.value for trial in study.trials if _complete(trial)}
    if len(values) < _FEWEST_TRIALS:
        return {}
    # With few trials, Optuna's default evaluator gives shares to parameters that were never varied.
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return shares if any(shares.values()) else {}


def _summary(study: Study) -> str:
    trials = study.trials
    seconds = sum(trial.user_attrs.get("seconds", 0) for trial in trials)
    dollars = sum(trial.user_attrs.get("dollars") or 0 for trial in trials)
    cost = f", {dollars:.2f} USD" if dollars else ""
    complete = sum(map(_complete, trials))
    return f"{len(trials)} trials, {complete} complete, {seconds:,.0f} s of training{cost}."


def _table(study: Study, task: TuningTask, is_over: bool) -> list[list[str]]:
    """Return a row for each of the best trials, then for the newest incomplete trials."""
    worst_first = study.direction == StudyDirection.MAXIMIZE
    complete = sorted(filter(_complete, study.trials), key=lambda trial: trial.value or 0, reverse=worst_first)
    incomplete = [trial for trial in reversed(study.trials) if not _complete(trial)]
    names = list(task.space)
    return [
        ["Trial", task.metric.replace("_", " "), *names, "Seconds"],
        *(
            [str(trial.number), _state(trial, is_over), *_values(trial, names)]
            for trial in complete[:_ROWS] + incomplete[:_ROWS]
        ),
    ]


def _state(trial: FrozenTrial, is_over: bool) -> str:
    if trial.value is not None and _complete(trial):
        return f"{trial.value:.4f}"
    if trial.state == TrialState.RUNNING:
        return "stopped at the end of the time; the next run resumes it" if is_over else "running"
    return _STATES.get(trial.state, f"failed: {trial.user_attrs.get('error', 'its run was interrupted')}"[:200])


def _values(trial: FrozenTrial, names: list[str]) -> list[str]:
    values = [_number(trial.params[name]) if name in trial.params else "" for name in names]
    return [*values, _number(trial.user_attrs.get("seconds", ""))]


def _complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
