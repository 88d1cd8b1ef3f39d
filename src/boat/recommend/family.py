"""The recommenders: one way to fit them, one graph to export them."""

import time
from dataclasses import replace

import numpy as np

from boat.errors import DataError
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.models.fitted import FittedModel, Report
from boat.models.warm_start import WarmStart
from boat.recommend import catalogue, counted, training
from boat.recommend.catalogue import Catalogue
from boat.recommend.graph import OUTPUTS, RecommendGraph
from boat.recommend.parameters import RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS, Recommender
from boat.recommend.scores import Scores, SummedScores
from boat.recommend.training import TrainedNextItem

_PAGE_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)


def fit(
    train: Sessions,
    validation: Sessions,
    combined: Sessions,
    parameters: RecommendParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
    described: Catalogue = catalogue.EMPTY,
) -> FittedModel:
    """Fit the recommender that the parameters name.

    Args:
        train: Sessions to learn from.
        validation: Sessions that measure the model and end its training.
        combined: `train` and `validation` together: the exported model learns from them.
        parameters: Model, sizes, speed and limits.
        report: Called with the metrics of each epoch.
        checkpoint: File with a network's state after each epoch, to resume from.
        described: Description vectors of the catalogue. With them a network can recommend products without views.

    Raises:
        DataError: One of the parts has no examples.
    """
    recommender = RECOMMENDERS[parameters.model]
    if not recommender.network:
        return _count(train, validation, combined, parameters, report)
    added = _added(recommender)
    if not len(train.shared_pages):
        added.pop("pages", None)
    result = training.train(train, validation, combined, parameters, report, checkpoint, added, described)
    return _fitted(result, parameters)


def refit(
    warm_start: WarmStart, sessions: Sessions, parameters: RecommendParameters, described: Catalogue = catalogue.EMPTY
) -> FittedModel:
    """Fit a recommender again on more sessions, without validation.

    Args:
        warm_start: The fitted recommender. Its weights of pages and counts are kept.
        sessions: All sessions to learn from.
        parameters: Sizes, speed and limits.
        described: Description vectors of the catalogue.
    """
    recommender = RECOMMENDERS[parameters.model]
    if not recommender.network:
        return count_sessions(sessions, parameters, warm_start.choices["weight_pages"])
    return _fitted(training.refit(warm_start, sessions, parameters, _added(recommender), described), parameters)


def _added(recommender: Recommender) -> dict[str, training.Count]:
    """Return the builders of the counted scores that a network can be blended with."""
    added: dict[str, training.Count] = {name: RECOMMENDERS[name].load() for name in recommender.added}
    return {**added, "pages": counted.pages} if recommender.uses_pages else added


def _fitted(result: TrainedNextItem, parameters: RecommendParameters) -> FittedModel:
    graph = _graph(result.scores, result.names, result.counts, parameters, result.most_similar)
    curve, metrics = result.trained.curve, result.trained.metrics
    products, warm_start = len(result.names), result.warm_start
    return FittedModel(graph, parameters.model, OUTPUTS, curve, metrics, products, warm_start=warm_start)


def _count(
    train: Sessions, validation: Sessions, combined: Sessions, parameters: RecommendParameters, report: Report
) -> FittedModel:
    """Fit a counting recommender: once on `train` to validate it, and once more on all sessions."""
    began = time.monotonic()
    recommender = RECOMMENDERS[parameters.model]
    build = recommender.load()
    names, frequency = train.vocabulary("product_id")
    unseen = training.validation_sample(training.targets(validation, names, with_pages=True), parameters)
    if not len(names) or not len(unseen.target):
        raise DataError(
            f"Cannot train {parameters.model}: the snapshot has {len(names)} products before the validation days and "
            f"{len(unseen.target)} validation examples.",
            "Increase `days` of `retrain`, or load events of more days.",
        )
    candidates = {0.0: build(train, names, frequency, parameters)}
    with_pages = recommender.uses_pages and len(train.shared_pages) > 0
    if with_pages:
        pages = counted.pages(train, names, frequency, parameters)
        candidates |= {weight: SummedScores([candidates[0.0], pages], [1.0, weight]) for weight in _PAGE_WEIGHTS}
    mrr_by_weight = {
        weight: training.validation_mrr(scores, unseen, parameters) for weight, scores in candidates.items()
    }
    weight, mrr = max(mrr_by_weight.items(), key=lambda item: item[1])
    fitted = count_sessions(combined, parameters, weight)
    seconds = time.monotonic() - began
    speed = round(len(combined.events) / seconds)
    row = {"epoch": 1, "validation_mrr": mrr, "events_per_second": speed, "seconds": round(seconds, 2)}
    report(row)
    metrics = {"validation_mrr": mrr, "train_seconds": round(seconds, 2)}
    if with_pages:
        metrics["weight_pages"] = weight
    return replace(fitted, curve=[row], metrics=metrics)


def count_sessions(sessions: Sessions, parameters: RecommendParameters, weight_pages: float = 0.0) -> FittedModel:
    """Fit a counting recommender.

    Args:
        sessions: Sessions to learn from.
        parameters: Model and limits.
        weight_pages: Weight of the products that followed the page, relative to the other counts.
    """
    names, frequency = sessions.vocabulary("product_id")
    scores = RECOMMENDERS[parameters.model].load()(sessions, names, frequency, parameters)
    if weight_pages:
        scores = SummedScores([scores, counted.pages(sessions, names, frequency, parameters)], [1.0, weight_pages])
    graph = _graph(scores, names, frequency, parameters)
    warm_start = WarmStart(parameters.model, {}, {"weight_pages": weight_pages})
    return FittedModel(graph, parameters.model, OUTPUTS, [], {}, len(names), warm_start=warm_start)


def _graph(
    scores: Scores,
    names: np.ndarray,
    frequency: np.ndarray,
    parameters: RecommendParameters,
    most_similar: np.ndarray | None = None,
) -> RecommendGraph:
    shares = counted.shares(frequency)
    return RecommendGraph(scores, names, shares, parameters.window, parameters.repeats == "keep", most_similar)
