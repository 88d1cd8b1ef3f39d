"""The training and evaluation of recommenders in jobs. It needs TensorFlow."""

from pathlib import Path

from boat import snapshot
from boat.evaluation.report import EvaluationReport, ModelReport
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.served import SavedModel
from boat.recommend import behaviour, catalogue, family, slices
from boat.recommend.evaluation import RecommendTestSet
from boat.recommend.parameters import RecommendParameters
from boat.snapshot import Manifest


def fit(
    folder: Path, manifest: Manifest, parameters: RecommendParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit a recommender to a snapshot; see `boat.recommend.family.fit`."""
    path = folder / snapshot.RECOMMEND
    train, validation, combined = examples.read_parts(path, manifest.split, ["train", "validation", "fit"])
    described = catalogue.read(folder)
    if described.left_out:
        print(f"{described.left_out} products have unusable description vectors, which are ignored.")
    return family.fit(train, validation, combined, parameters, report, checkpoint, described)


def evaluate(folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None) -> EvaluationReport:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    test_set = RecommendTestSet(folder, manifest)
    ranked = test_set.predict(challenger)
    champion_ranked = test_set.predict(champion) if champion else None
    return EvaluationReport(
        challenger=ModelReport(
            test_set.score(ranked),
            slices.score(test_set, ranked),
            above_champion=test_set.difference(ranked, champion_ranked) if champion_ranked else {},
            behaviour=behaviour.suite.run(behaviour.Bed(challenger, test_set, ranked)),
        ),
        champion=ModelReport(test_set.score(champion_ranked), slices.score(test_set, champion_ranked))
        if champion_ranked
        else None,
        baselines={name: ModelReport(test_set.score(lists)) for name, lists in test_set.baselines().items()},
    )
