"""The recommenders: one way to fit them, one graph to export them."""

import time

import numpy as np

from boat.errors import DataError
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.models.fitted import FittedModel, Report
from boat.recommend import catalogue, counted, training
from boat.recommend.catalogue import Catalogue
from boat.recommend.graph import OUTPUTS, RecommendGraph
from boat.recommend.parameters import RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS
from boat.recommend.scores import Scores, SummedScores

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
    added: dict[str, training.Count] = {name: RECOMMENDERS[name].load() for name in recommender.added}
    if recommender.uses_pages and len(train.shared_pages):
        added["pages"] = counted.pages
    result = training.train(train, validation, combined, parameters, report, checkpoint, added, described)
    graph = _graph(result.scores, result.names, result.counts, parameters, result.most_similar)
    trained = result.trained
    return FittedModel(graph, parameters.model, OUTPUTS, trained.curve, trained.metrics, len(result.names))


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
    names, frequency = combined.vocabulary("product_id")
    scores = build(combined, names, frequency, parameters)
    if weight:
        scores = SummedScores([scores, counted.pages(combined, names, frequency, parameters)], [1.0, weight])
    seconds = time.monotonic() - began
    speed = round(len(combined.events) / seconds)
    row = {"epoch": 1, "validation_mrr": mrr, "events_per_second": speed, "seconds": round(seconds, 2)}
    report(row)
    metrics = {"validation_mrr": mrr, "train_seconds": round(seconds, 2)}
    if with_pages:
        metrics["weight_pages"] = weight
    graph = _graph(scores, names, frequency, parameters)
    return FittedModel(graph, parameters.model, OUTPUTS, [row], metrics, len(names))


def _graph(
    scores: Scores,
    names: np.ndarray,
    frequency: np.ndarray,
    parameters: RecommendParameters,
    most_similar: np.ndarray | None = None,
) -> RecommendGraph:
    shares = counted.shares(frequency)
    return RecommendGraph(scores, names, shares, parameters.window, parameters.repeats == "keep", most_similar)
