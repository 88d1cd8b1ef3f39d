"""The family of next-item models: one way to fit them, one graph to export them in."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from boat.errors import DataError
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.recommend import catalogue, counts, training
from boat.recommend.catalogue import Catalogue
from boat.recommend.graph import RecommendGraph
from boat.recommend.parameters import RecommendParameters
from boat.recommend.scores import FollowerScores, NeighbourScores, PageScores, PopularScores, Scores, SummedScores

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Fitted:
    """A model that has learned, ready for export.

    Attributes:
        graph: The model; its function `serve` is the signature.
        products: How many it knows.
        curve: The figures of each epoch; one row where there are no epochs.
        metrics: `validation_mrr`, `train_seconds` and more.
    """

    graph: RecommendGraph
    products: int
    curve: list[dict[str, float]]
    metrics: dict[str, float]


def fit(
    train: Sessions,
    validation: Sessions,
    both: Sessions,
    parameters: RecommendParameters,
    report: Report,
    checkpoint: Checkpoint | None = None,
    described: Catalogue = catalogue.EMPTY,
) -> Fitted:
    """Fit the model that the parameters name.

    Args:
        train: Sessions to learn from.
        validation: Sessions that tell how good it is, and when to stop.
        both: The two together, from which the exported model learns in the end.
        parameters: Which model, sizes, speed and limits.
        report: Called with the figures of each epoch.
        checkpoint: Where a network keeps its state after each epoch, and goes on from.
        described: What the shop says of its products; with it a network knows those, too, that nobody has viewed.

    Raises:
        DataError: No examples in one of the parts.
    """
    if parameters.model in training.NETWORKS:
        beside = {name: _COUNTED[name] for name in _BESIDE} if parameters.model == "blend" else {}
        if beside and len(examples.shared_pages(train, _MOST_PAGES)):
            beside["pages"] = _pages
        result = training.train(train, validation, both, parameters, report, checkpoint, beside, described)
        graph = _graph(result.scores, result.names, result.counts, parameters, result.likest)
        return Fitted(graph, len(result.names), result.trained.curve, result.trained.metrics)
    return _count(train, validation, both, parameters, report)


def _count(
    train: Sessions, validation: Sessions, both: Sessions, parameters: RecommendParameters, report: Report
) -> Fitted:
    """Models that only count: once to be validated, and once more with all sessions."""
    began = time.monotonic()
    build = _COUNTED[parameters.model]
    names, frequency = examples.vocabulary(train.strings("product_id"))
    unseen = training.sample(training.windows(validation, names, parameters), parameters.seed)
    if not len(names) or not len(unseen.target):
        raise DataError(
            f"There are {len(names)} products to count and {len(unseen.target)} examples to validate with.",
            "Take a snapshot of more days.",
        )
    tried = {0.0: build(train, names, frequency, parameters)}
    with_pages = parameters.model == "co_occurrence" and len(examples.shared_pages(train, _MOST_PAGES)) > 0
    if with_pages:
        beside = _pages(train, names, frequency, parameters)
        tried |= {weight: SummedScores([tried[0.0], beside], [1.0, weight]) for weight in _PAGE_WEIGHTS}
    found = {weight: training.validation_mrr(scores, unseen, parameters) for weight, scores in tried.items()}
    weight, mrr = max(found.items(), key=lambda each: each[1])
    names, frequency = examples.vocabulary(both.strings("product_id"))
    scores = build(both, names, frequency, parameters)
    if weight:
        scores = SummedScores([scores, _pages(both, names, frequency, parameters)], [1.0, weight])
    seconds = time.monotonic() - began
    speed = round(len(both.events) / seconds)
    row = {"epoch": 1, "validation_mrr": mrr, "events_per_second": speed, "seconds": round(seconds, 2)}
    report(row)
    metrics = {"validation_mrr": mrr, "train_seconds": round(seconds, 2)}
    if with_pages:
        metrics["weight_pages"] = weight
    return Fitted(_graph(scores, names, frequency, parameters), len(names), [row], metrics)


def _graph(
    scores: Scores,
    names: np.ndarray,
    frequency: np.ndarray,
    parameters: RecommendParameters,
    likest: np.ndarray | None = None,
) -> RecommendGraph:
    return RecommendGraph(scores, names, _shares(frequency), parameters.window, parameters.repeats == "keep", likest)


def _shares(frequency: np.ndarray) -> np.ndarray:
    shares: np.ndarray = frequency / frequency.sum()
    return shares


def _popular(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    return PopularScores(_shares(frequency))


def _co_occurrence(
    part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters
) -> tf.Module:
    follows = counts.followers(training.windows(part, names, parameters), len(names))
    return FollowerScores(follows, _shares(frequency))


def _vmis_knn(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    codes = examples.encode(part.strings("product_id"), names)
    sessions = counts.memberships(codes, part.offsets, part.seconds, len(names))
    return NeighbourScores(sessions, parameters.sample, parameters.neighbours, _shares(frequency))


def _pages(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    urls = examples.shared_pages(part, _MOST_PAGES)
    codes = examples.encode(part.strings("product_id"), names)
    days = (part.seconds.max() - part.seconds) / _DAY
    before = examples.encode(examples.pages(part), urls)
    weights = 0.5 ** (days / parameters.half_life)
    return PageScores(urls, counts.page_followers(before, codes, part.offsets, weights, (len(urls), len(names))))


_COUNTED: Mapping[str, training.Count] = {
    "popular": _popular,
    "co_occurrence": _co_occurrence,
    "vmis_knn": _vmis_knn,
}
_BESIDE = ("vmis_knn", "co_occurrence")  # what the blend counts beside its network
_PAGE_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_PAGES = 200_000
_DAY = 86_400
