"""What a search has tried and found, as a page: Optuna's figures in our charts.

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
from boat.tuning.study import Subject, best

_ROWS = 10
_STATES: Mapping[TrialState, str] = {
    TrialState.PRUNED: "ended early, hopeless",
    TrialState.WAITING: "next",
}
_LEAST = 4  # trials, from which one can tell what matters


def search_card(study: Study, subject: Subject, *, over: bool = False) -> Card:
    """What there is to know of a search: while it goes on, or when it is over."""
    found = best(study)
    figure = subject.figure.replace("_", " ")
    sections = []
    if found is not None:
        text = f"Trial {found.number} has the best {figure}: {found.value:.4f}{_beside_defaults(study, subject)}."
        rows = [("Parameter", "Value"), *((name, _number(value)) for name, value in found.params.items())]
        sections = [Section("Best", text, rows), Section("History", picture=_history(study, figure))]
        matters = _importances(study)
        if matters:
            text = "Share of what the parameters have to do with the figure (fANOVA over the trials)."
            sections.append(Section("What matters", text, picture=shares_svg(matters)))
    sections.append(Section("Trials", _counted(study), _table(study, subject, over)))
    return Card(f"Search for {subject.kind}", f"{subject.study}: snapshot {subject.digest[:12]}.", tuple(sections))


def write_page(card: Card, study: Study, folder: Path) -> Path:
    """Write a search's page to `folder/searches/STUDY.html`; returns that path."""
    path = folder / "searches" / f"{study.study_name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.html(), encoding="utf-8")
    return path


def _beside_defaults(study: Study, subject: Subject) -> str:
    usual = defaults(subject.kind, subject.space)
    values = [trial.value for trial in study.trials if _complete(trial) and trial.params == usual]
    return f"; with the defaults it is {values[0]:.4f}" if values else ""


def _history(study: Study, figure: str) -> str:
    falls = study.direction == StudyDirection.MINIMIZE
    tried = {trial.number: trial.value for trial in study.trials if trial.value is not None and _complete(trial)}
    given_up = {
        trial.number: trial.intermediate_values[max(trial.intermediate_values)]
        for trial in study.trials
        if trial.state == TrialState.PRUNED and trial.intermediate_values
    }
    return trials_svg(tried, given_up, figure, falls=falls)


def _importances(study: Study) -> Mapping[str, float]:
    """Empty where too little has been tried, or nothing made a difference."""
    values = {trial.value for trial in study.trials if _complete(trial)}
    if len(values) < _LEAST:
        return {}
    # Of few trials the default evaluator tells little: it gives shares to parameters that were never varied.
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return shares if any(shares.values()) else {}


def _counted(study: Study) -> str:
    trials = study.trials
    seconds = sum(trial.user_attrs.get("seconds", 0) for trial in trials)
    dollars = sum(trial.user_attrs.get("dollars") or 0 for trial in trials)
    cost = f", {dollars:.2f} USD" if dollars else ""
    complete = sum(map(_complete, trials))
    return f"{len(trials)} trials, {complete} of them to their end, {seconds:,.0f} s of training{cost}."


def _table(study: Study, subject: Subject, over: bool) -> list[list[str]]:
    """The best trials, then the newest of the others."""
    worst_first = study.direction == StudyDirection.MAXIMIZE
    ended = sorted(filter(_complete, study.trials), key=lambda trial: trial.value or 0, reverse=worst_first)
    others = [trial for trial in reversed(study.trials) if not _complete(trial)]
    names = list(subject.space)
    return [
        ["Trial", subject.figure.replace("_", " "), *names, "Seconds"],
        *([str(trial.number), _fate(trial, over), *_values(trial, names)] for trial in ended[:_ROWS] + others[:_ROWS]),
    ]


def _fate(trial: FrozenTrial, over: bool) -> str:
    if trial.value is not None and _complete(trial):
        return f"{trial.value:.4f}"
    if trial.state == TrialState.RUNNING:
        return "stopped, as the time was over; the next search takes it up" if over else "under way"
    return _STATES.get(trial.state, f"failed: {trial.user_attrs.get('why', 'its run was interrupted')}"[:200])


def _values(trial: FrozenTrial, names: list[str]) -> list[str]:
    shown = [_number(trial.params[name]) if name in trial.params else "" for name in names]
    return [*shown, _number(trial.user_attrs.get("seconds", ""))]


def _complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
