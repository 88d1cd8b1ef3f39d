"""What the training and evaluation jobs do for recommenders. It needs TensorFlow."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from boat import snapshot
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.served import SavedModel
from boat.recommend import behaviour, catalogue, family, slices
from boat.recommend.baselines import Ranked
from boat.recommend.evaluation import NextItems
from boat.recommend.parameters import RecommendParameters
from boat.snapshot import Manifest


def fit(
    folder: Path, manifest: Manifest, parameters: RecommendParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit a recommender to a snapshot; see `boat.recommend.family.fit`."""
    path = folder / snapshot.RECOMMEND
    train = examples.read(path, manifest.split, "train")
    validation = examples.read(path, manifest.split, "validation")
    both = examples.read(path, manifest.split, "fit")
    described = catalogue.read(folder)
    if described.left_out:
        print(f"{described.left_out} products have description vectors unlike the others': they are left out.")
    return family.fit(train, validation, both, parameters, report, checkpoint, described)


def evaluate(
    folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None
) -> Mapping[str, Any]:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    asked = NextItems(folder, manifest)
    ranked = asked.ask(challenger)
    theirs = asked.ask(champion) if champion else None
    results = behaviour.suite.run(behaviour.Bed(challenger, asked, ranked))
    return {
        "challenger": {
            **_figures(asked, ranked),
            "above_champion": asked.difference(ranked, theirs) if theirs else None,
            "behaviour": [asdict(result) for result in results],
        },
        "champion": _figures(asked, theirs) if theirs else None,
        **{name: asked.figures(simple) for name, simple in asked.baselines().items()},
    }


def _figures(asked: NextItems, ranked: Ranked) -> Mapping[str, Any]:
    return {**asked.figures(ranked), "slices": slices.figures(asked, ranked)}
