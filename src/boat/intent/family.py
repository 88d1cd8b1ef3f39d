"""The family of purchase-intent models, all exported to the same signature: see `boat.intent.graph`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from boat import metrics
from boat.intent import boosting, training
from boat.intent.estimators import ESTIMATORS
from boat.intent.features import Histories
from boat.intent.graph import OUTPUTS, IntentGraph
from boat.intent.odds import BlendOdds, ForestOdds, NetworkOdds, Odds
from boat.intent.parameters import IntentModel, IntentParameters
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.fitting import Trained

_SURE = 0.95


@dataclass(frozen=True)
class Candidate:
    """A model that has learned.

    Attributes:
        odds: What may go live.
        validation: Log-odds of the validation cuts before it learned from them, float64 [cuts].
        figures: What those are worth: `validation_pr_auc` and `validation_loss`.
        curve: The figures of each epoch; empty where there are no epochs.
    """

    odds: Odds
    validation: np.ndarray
    figures: dict[str, float]
    curve: list[dict[str, float]]


def fit(
    train: Histories,
    validation: Histories,
    both: Histories,
    parameters: IntentParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
) -> FittedModel:
    """Fit the model that the parameters name, or for `auto` the one that `best` chooses.

    Args:
        train: Sessions to learn from.
        validation: Sessions that tell how good they are, and when a network stops.
        both: The two together, from which the exported trees learn in the end.
        parameters: Which model, sizes, speed and limits.
        report: Called with the figures of each epoch.
        checkpoint: Where a network keeps its state after each epoch, and goes on from.

    Raises:
        DataError: See `boat.intent.training.check`.
    """
    began = time.monotonic()
    found = candidates(train, validation, both, parameters, report, checkpoint)
    session, _shown = validation.cuts(parameters.seed)
    model = best(found, validation.buys[session], session) if parameters.model == "auto" else parameters.model
    chosen = found[model]
    seconds = round(time.monotonic() - began, 2)
    curve = next((each.curve for each in found.values() if each.curve), [])
    if not curve:
        curve = [{"epoch": 1, **chosen.figures, "seconds": seconds}]
        report(curve[0])
    every = {f"{figure}_{name}": value for name, each in found.items() for figure, value in each.figures.items()}
    figures = {**chosen.figures, **every, "train_seconds": seconds}
    return FittedModel(IntentGraph(chosen.odds, parameters.window), model, OUTPUTS, curve, figures)


def best(found: Mapping[IntentModel, Candidate], label: np.ndarray, session: np.ndarray) -> IntentModel:
    """The blend, unless a part of it alone has the higher PR-AUC in nearly all draws of the validation sessions.

    With few buyers the highest figure is often luck, and the mean of several models is the safe choice.

    Args:
        found: Candidates, the blend among them.
        label: Whether each validation cut buys, bool [cuts].
        session: Its session, int64 [cuts].
    """
    areas = {name: metrics.pr_auc_draws(label, each.validation, session) for name, each in found.items()}
    surely = [name for name in areas if np.mean(areas[name] > areas["blend"]) >= _SURE]
    return max(surely, key=lambda name: found[name].figures["validation_pr_auc"], default="blend")


def candidates(
    train: Histories,
    validation: Histories,
    both: Histories,
    parameters: IntentParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
) -> dict[IntentModel, Candidate]:
    """All that the parameters' model is, is made of or is chosen from; see `fit`."""
    training.check(train, validation)
    found: dict[IntentModel, Candidate] = {}
    for name in ESTIMATORS[parameters.model].parts:
        if name == "boosting":
            found[name] = _boosted(train, validation, both, parameters)
        else:
            trained = training.train(name, train, validation, parameters, report, checkpoint)
            found[name] = _network(trained, validation, parameters)
    if len(found) > 1:
        found["blend"] = _blend(tuple(found.values()), validation, parameters)
    return found


def _network(trained: Trained, validation: Histories, parameters: IntentParameters) -> Candidate:
    session, shown = validation.cuts(parameters.seed)
    odds = trained.network(validation.windows(session, shown, parameters.window)).numpy().astype(np.float64)
    return Candidate(NetworkOdds(trained.network), odds, _figures(odds, validation, parameters), trained.curve)


def _boosted(train: Histories, validation: Histories, both: Histories, parameters: IntentParameters) -> Candidate:
    """Trees that learned from train and validation together, and what those of train alone said of validation."""
    judged = _grown(train, parameters)
    odds = judged.log_odds(validation.features(*validation.cuts(parameters.seed), parameters.window))
    live = ForestOdds(_grown(both, parameters, judged.rounds).forest())
    return Candidate(live, odds, _figures(odds, validation, parameters), [])


def _blend(parts: Sequence[Candidate], validation: Histories, parameters: IntentParameters) -> Candidate:
    odds = np.mean([part.validation for part in parts], axis=0)
    live = BlendOdds([part.odds for part in parts])
    return Candidate(live, odds, _figures(odds, validation, parameters), [])


def _grown(part: Histories, parameters: IntentParameters, rounds: int | None = None) -> boosting.Boosted:
    session, shown = part.prefixes(parameters.seed)
    return boosting.fit(
        part.features(session, shown, parameters.window),
        part.buys[session],
        session,
        members=parameters.members,
        leaves=parameters.leaves,
        most_rounds=parameters.rounds,
        seed=parameters.seed,
        rounds=rounds,
    )


def _figures(odds: np.ndarray, validation: Histories, parameters: IntentParameters) -> dict[str, float]:
    label, chance = validation.buys[validation.cuts(parameters.seed)[0]], 1 / (1 + np.exp(-odds))
    return {
        "validation_pr_auc": metrics.pr_auc(label, chance),
        "validation_loss": metrics.log_loss(label, chance),
    }
