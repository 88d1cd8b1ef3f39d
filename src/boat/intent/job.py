"""What the training and evaluation jobs do for intent models. It needs TensorFlow."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from boat import snapshot
from boat.intent import behaviour, family
from boat.intent.evaluation import Purchases
from boat.intent.features import histories
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.served import SavedModel
from boat.snapshot import Manifest


def fit(
    folder: Path, manifest: Manifest, parameters: IntentParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit an intent model to a snapshot; see `boat.intent.family.fit`."""
    path = folder / snapshot.INTENT
    train, validation, both = (
        histories(examples.read(path, manifest.split, "train")),
        histories(examples.read(path, manifest.split, "validation")),
        histories(examples.read(path, manifest.split, "fit")),
    )
    return family.fit(train, validation, both, parameters, report, checkpoint)


def evaluate(
    folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None
) -> Mapping[str, Any]:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    asked = Purchases(folder, manifest, challenger.manifest.parameters)
    chances = asked.ask(challenger)
    starts = chances[: len(asked.session)]
    bed = behaviour.Bed(challenger, asked.fit, asked.test, asked.session, asked.shown, starts)
    results = behaviour.suite.run(bed)
    return {
        "challenger": {**asked.figures(chances), "behaviour": [asdict(result) for result in results]},
        "champion": asked.figures(asked.ask(champion)) if champion else None,
        **asked.baselines(),
    }
