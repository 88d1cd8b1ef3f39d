"""The intent models. All of them are exported with the same signature; see `boat.intent.graph`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from boat import metrics
from boat.intent import boosting, linear, training
from boat.intent.estimators import ESTIMATORS
from boat.intent.features import Histories
from boat.intent.graph import OUTPUTS, IntentGraph
from boat.intent.odds import BlendOdds, ForestOdds, LinearOdds, NetworkOdds, Odds
from boat.intent.parameters import IntentModel, IntentParameters
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.fitting import Trained
from boat.models.warm_start import WarmStart, arrays_of

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Candidate:
    """A fitted model that may be exported.

    Attributes:
        odds: The model.
        validation: Log-odds of the validation cuts, by the model of the train sessions alone, float64 [cuts].
        metrics: Their `validation_pr_auc` and `validation_loss`.
        curve: The metrics of each epoch; empty if there are no epochs.
        arrays: The weights of its network, for a warm start.
        choices: The number of rounds of its trees, for a warm start.
    """

    odds: Odds
    validation: np.ndarray
    metrics: dict[str, float]
    curve: list[dict[str, float]]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)


def fit(
    train: Histories,
    validation: Histories,
    combined: Histories,
    parameters: IntentParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
) -> FittedModel:
    """Fit the model that the parameters name, or for `auto` the one that `best` chooses.

    Args:
        train: Sessions to learn from.
        validation: Sessions that measure the models and end the training of a network.
        combined: `train` and `validation` together: the exported trees learn from them.
        parameters: Model, sizes, speed and limits.
        report: Called with the metrics of each epoch.
        checkpoint: File with a network's state after each epoch, to resume from.

    Raises:
        DataError: See `boat.intent.training.check`.
    """
    began = time.monotonic()
    fitted = candidates(train, validation, combined, parameters, report, checkpoint)
    session, _length = validation.cuts(parameters.seed)
    model = best(fitted, validation.buys[session], session) if parameters.model == "auto" else parameters.model
    chosen = fitted[model]
    seconds = round(time.monotonic() - began, 2)
    curve = next((candidate.curve for candidate in fitted.values() if candidate.curve), [])
    if not curve:
        curve = [{"epoch": 1, **chosen.metrics, "seconds": seconds}]
        report(curve[0])
    by_model = {
        f"{metric}_{name}": value for name, candidate in fitted.items() for metric, value in candidate.metrics.items()
    }
    totals = {**chosen.metrics, **by_model, "train_seconds": seconds}
    warm_start = WarmStart(model, chosen.arrays, chosen.choices)
    return FittedModel(
        IntentGraph(chosen.odds, parameters.window), model, OUTPUTS, curve, totals, warm_start=warm_start
    )


def refit(warm_start: WarmStart, sessions: Histories, parameters: IntentParameters) -> FittedModel:
    """Fit a model again on more sessions, without validation.

    Args:
        warm_start: The fitted model. Its network is continued; its trees are grown again, as many as before.
        sessions: All sessions to learn from.
        parameters: Sizes, speed and limits.
    """
    parts: list[Odds] = []
    arrays: dict[str, np.ndarray] = {}
    for name in ESTIMATORS[cast(IntentModel, warm_start.model)].parts:
        if name == "logistic":
            parts.append(LinearOdds(_linear(sessions, parameters)))
        elif name == "boosting":
            parts.append(ForestOdds(_grown(sessions, parameters, warm_start.choices["rounds"]).forest()))
        else:
            network = training.refit(name, warm_start.weights, sessions, parameters)
            arrays = arrays_of(network)
            parts.append(NetworkOdds(network))
    odds = BlendOdds(parts) if len(parts) > 1 else parts[0]
    graph, refitted = IntentGraph(odds, parameters.window), replace(warm_start, arrays=arrays)
    return FittedModel(graph, warm_start.model, OUTPUTS, [], {}, warm_start=refitted)


def best(fitted: Mapping[IntentModel, Candidate], label: np.ndarray, session: np.ndarray) -> IntentModel:
    """Choose the blend, unless one of its parts has the higher PR-AUC in nearly all draws of the validation sessions.

    With few buyers the highest PR-AUC is often luck, and the mean of several models is the safe choice.

    Args:
        fitted: Candidates, including the blend.
        label: Whether the session of each validation cut buys, bool [cuts].
        session: Number of that session, int64 [cuts].
    """
    areas = {name: metrics.pr_auc_draws(label, candidate.validation, session) for name, candidate in fitted.items()}
    better = [name for name in areas if np.mean(areas[name] > areas["blend"]) >= _CONFIDENCE]
    return max(better, key=lambda name: fitted[name].metrics["validation_pr_auc"], default="blend")


def candidates(
    train: Histories,
    validation: Histories,
    combined: Histories,
    parameters: IntentParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
) -> dict[IntentModel, Candidate]:
    """Fit the parts of the model that the parameters name, and the blend of two parts; see `fit`."""
    training.check(train, validation)
    fitted: dict[IntentModel, Candidate] = {}
    for name in ESTIMATORS[parameters.model].parts:
        if name == "logistic":
            fitted[name] = _regressed(train, validation, combined, parameters)
        elif name == "boosting":
            fitted[name] = _boosted(train, validation, combined, parameters)
        else:
            trained = training.train(name, train, validation, parameters, report, checkpoint)
            fitted[name] = _network(trained, validation, parameters)
    if len(fitted) > 1:
        fitted["blend"] = _blend(tuple(fitted.values()), validation, parameters)
    return fitted


def _network(trained: Trained, validation: Histories, parameters: IntentParameters) -> Candidate:
    session, length = validation.cuts(parameters.seed)
    odds = trained.network(validation.windows(session, length, parameters.window)).numpy().astype(np.float64)
    return Candidate(
        NetworkOdds(trained.network),
        odds,
        _metrics(odds, validation, parameters),
        trained.curve,
        arrays=arrays_of(trained.network),
    )


def _boosted(train: Histories, validation: Histories, combined: Histories, parameters: IntentParameters) -> Candidate:
    """Fit trees to the train sessions to validate them, then fit the exported trees to all sessions."""
    validated = _grown(train, parameters)
    odds = validated.log_odds(validation.features(*validation.cuts(parameters.seed), parameters.window))
    exported = ForestOdds(_grown(combined, parameters, validated.rounds).forest())
    choices = {"rounds": validated.rounds}
    return Candidate(exported, odds, _metrics(odds, validation, parameters), [], choices=choices)


def _regressed(train: Histories, validation: Histories, combined: Histories, parameters: IntentParameters) -> Candidate:
    """Fit a regression to the train sessions to validate it, then fit the exported one to all sessions."""
    table = validation.features(*validation.cuts(parameters.seed), parameters.window)
    odds = _linear(train, parameters).log_odds(table)
    exported = LinearOdds(_linear(combined, parameters))
    return Candidate(exported, odds, _metrics(odds, validation, parameters), [])


def _linear(part: Histories, parameters: IntentParameters) -> linear.Linear:
    session, length = part.prefixes(parameters.seed)
    return linear.fit(part.features(session, length, parameters.window), part.buys[session])


def _blend(parts: Sequence[Candidate], validation: Histories, parameters: IntentParameters) -> Candidate:
    odds = np.mean([part.validation for part in parts], axis=0)
    exported = BlendOdds([part.odds for part in parts])
    arrays = {name: values for part in parts for name, values in part.arrays.items()}
    choices = {name: value for part in parts for name, value in part.choices.items()}
    return Candidate(exported, odds, _metrics(odds, validation, parameters), [], arrays, choices)


def _grown(part: Histories, parameters: IntentParameters, rounds: int | None = None) -> boosting.Boosted:
    session, length = part.prefixes(parameters.seed)
    return boosting.fit(
        part.features(session, length, parameters.window),
        part.buys[session],
        session,
        members=parameters.members,
        leaves=parameters.leaves,
        most_rounds=parameters.rounds,
        seed=parameters.seed,
        rounds=rounds,
    )


def _metrics(odds: np.ndarray, validation: Histories, parameters: IntentParameters) -> dict[str, float]:
    label, chance = validation.buys[validation.cuts(parameters.seed)[0]], 1 / (1 + np.exp(-odds))
    return {
        "validation_pr_auc": metrics.pr_auc(label, chance),
        "validation_loss": metrics.log_loss(label, chance),
    }
