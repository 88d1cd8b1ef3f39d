"""The training and evaluation of intent models in jobs. It needs TensorFlow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from boat import snapshot
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.report import EvaluationReport
from boat.intent import behaviour, family
from boat.intent.evaluation import IntentTestSet
from boat.intent.features import Histories, histories
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.models.fitted import FittedModel, Learned, Report
from boat.models.parameters import from_archive
from boat.models.served import SavedModel
from boat.models.warm_start import WarmStart
from boat.snapshot import Manifest


def fit(
    folder: Path, manifest: Manifest, parameters: IntentParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    """Fit an intent model to a snapshot; see `boat.intent.family.fit`."""
    path = folder / snapshot.INTENT
    parts = examples.read_parts(path, manifest.split, ["train", "validation", "fit"])
    (train, _), (validation, _), (combined, learned) = map(_compact, parts)
    pa.default_memory_pool().release_unused()  # the table of all events
    fitted = family.fit(train, validation, combined, parameters, report, checkpoint)
    return replace(fitted, learned=learned)


def refit(folder: Path, manifest: Manifest, parameters: IntentParameters, warm_start: WarmStart) -> FittedModel:
    """Fit an intent model again on all days of a snapshot; see `boat.intent.family.refit`."""
    sessions, learned = _compact(examples.read(folder / snapshot.INTENT, manifest.split, "all"))
    pa.default_memory_pool().release_unused()
    return replace(family.refit(warm_start, sessions, parameters), learned=learned)


def _compact(part: Sessions) -> tuple[Histories, Learned]:
    """Return what a training needs of a part, so that the table of its events can be freed."""
    return histories(part), part.learned


def evaluate(folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None) -> EvaluationReport:
    """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""
    parameters = from_archive(challenger.manifest.parameters, IntentParameters)
    test_set = IntentTestSet(folder, manifest, parameters)
    chances = test_set.predict(challenger)
    champion_chances = test_set.predict(champion) if champion else None
    return EvaluationReport(
        challenger=replace(
            test_set.score(chances),
            above_champion=test_set.difference(chances, champion_chances) if champion_chances is not None else {},
            behaviour=behaviour.suite.run(_bed(challenger, test_set, chances)),
        ),
        champion=test_set.score(champion_chances) if champion_chances is not None else None,
        baselines=test_set.baselines(),
    )


def compare(
    folder: Path, manifest: Manifest, released: SavedModel, twin: SavedModel
) -> tuple[float, tuple[BehaviourResult, ...]]:
    """Return the rank correlation of the models' chances, at least 0, and the behaviour of the first model."""
    test_set = IntentTestSet(folder, manifest, from_archive(released.manifest.parameters, IntentParameters))
    chances = test_set.predict(released)
    correlation = float(spearmanr(chances, test_set.predict(twin)).statistic)
    return max(correlation, 0.0), behaviour.suite.run(_bed(released, test_set, chances), unseen_days=False)


def _bed(model: SavedModel, test_set: IntentTestSet, chances: np.ndarray) -> behaviour.Bed:
    starts = chances[: len(test_set.session)]
    return behaviour.Bed(model, test_set.fit, test_set.test, test_set.session, test_set.length, starts)
