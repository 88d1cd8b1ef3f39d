"""The training and evaluation of recommenders in jobs. It needs TensorFlow."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from boat import snapshot
from boat.evaluation import asking
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.report import EvaluationReport, ModelReport
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.served import SavedModel
from boat.models.warm_start import WarmStart
from boat.recommend import behaviour, catalogue, family, slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import RecommendTestSet
from boat.recommend.parameters import RecommendParameters
from boat.snapshot import Manifest

_COMPARED_TARGETS = 5_000


def fit(
    folder: Path, manifest: Manifest, parameters: RecommendParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit a recommender to a snapshot; see `boat.recommend.family.fit`."""
    path = folder / snapshot.RECOMMEND
    train, validation, combined = examples.read_parts(path, manifest.split, ["train", "validation", "fit"])
    described = catalogue.read(folder)
    if described.left_out:
        print(f"{described.left_out} products have unusable description vectors, which are ignored.")
    fitted = family.fit(train, validation, combined, parameters, report, checkpoint, described)
    return replace(fitted, learned=combined.learned)


def refit(folder: Path, manifest: Manifest, parameters: RecommendParameters, warm_start: WarmStart) -> FittedModel:
    """Fit a recommender again on all days of a snapshot; see `boat.recommend.family.refit`."""
    sessions = examples.read(folder / snapshot.RECOMMEND, manifest.split, "all")
    fitted = family.refit(warm_start, sessions, parameters, catalogue.read(folder))
    return replace(fitted, learned=sessions.learned)


def evaluate(folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None) -> EvaluationReport:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    test_set = RecommendTestSet(folder, manifest)
    ranked = test_set.predict(challenger)
    champion_ranked = test_set.predict(champion) if champion else None
    baselines = {**test_set.baselines(), "vmis_knn": _vmis_knn(test_set)}
    return EvaluationReport(
        challenger=ModelReport(
            test_set.score(ranked),
            slices=slices.score(test_set, ranked, champion_ranked),
            above_champion=test_set.difference(ranked, champion_ranked) if champion_ranked else {},
            behaviour=behaviour.suite.run(behaviour.Bed(challenger, test_set, ranked)),
        ),
        champion=ModelReport(test_set.score(champion_ranked), slices=slices.score(test_set, champion_ranked))
        if champion_ranked
        else None,
        baselines={name: ModelReport(test_set.score(lists)) for name, lists in baselines.items()},
    )


def _vmis_knn(test_set: RecommendTestSet) -> Ranked:
    """Return the lists of VMIS-kNN, which learns from all days before the test."""
    parameters = RecommendParameters(model="vmis_knn")
    graph = family.count_sessions(test_set.fit, parameters).graph

    def score(columns: Mapping[str, np.ndarray]) -> asking.Answers:
        outputs = graph.serve(**{name: tf.constant(values) for name, values in columns.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return test_set.rank(score, parameters.model)


def compare(
    folder: Path, manifest: Manifest, released: SavedModel, twin: SavedModel
) -> tuple[float, tuple[BehaviourResult, ...]]:
    """Return the mean share of the first ten products that both models list, and the behaviour of the first model."""
    test_set = RecommendTestSet(folder, manifest, _COMPARED_TARGETS)
    ranked = test_set.predict(released)
    bed = behaviour.Bed(released, test_set, ranked)
    return ranked.overlap(test_set.predict(twin)), behaviour.suite.run(bed, unseen_days=False)
