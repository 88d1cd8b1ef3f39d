"""The training and evaluation of intent models in jobs. It needs TensorFlow."""

from dataclasses import replace
from pathlib import Path

from boat import snapshot
from boat.evaluation.report import EvaluationReport
from boat.intent import behaviour, family
from boat.intent.evaluation import IntentTestSet
from boat.intent.features import histories
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.fitted import FittedModel, Report
from boat.models.parameters import from_archive
from boat.models.served import SavedModel
from boat.snapshot import Manifest


def fit(
    folder: Path, manifest: Manifest, parameters: IntentParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit an intent model to a snapshot; see `boat.intent.family.fit`."""
    path = folder / snapshot.INTENT
    parts = examples.read_parts(path, manifest.split, ["train", "validation", "fit"])
    train, validation, combined = map(histories, parts)
    return family.fit(train, validation, combined, parameters, report, checkpoint)


def evaluate(folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None) -> EvaluationReport:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    parameters = from_archive(challenger.manifest.parameters, IntentParameters)
    test_set = IntentTestSet(folder, manifest, parameters)
    chances = test_set.predict(challenger)
    starts = chances[: len(test_set.session)]
    bed = behaviour.Bed(challenger, test_set.fit, test_set.test, test_set.session, test_set.length, starts)
    return EvaluationReport(
        challenger=replace(test_set.score(chances), behaviour=behaviour.suite.run(bed)),
        champion=test_set.score(test_set.predict(champion)) if champion else None,
        baselines=test_set.baselines(),
    )
