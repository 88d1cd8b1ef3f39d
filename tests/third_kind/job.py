"""The training and evaluation of the third kind."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from boat import snapshot
from boat.cart import CartParameters
from boat.evaluation import asking
from boat.evaluation.behaviour import Suite
from boat.evaluation.report import EvaluationReport, ModelReport
from boat.models import examples, sessions
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.models.fitted import FittedModel, Report
from boat.models.served import SavedModel
from boat.snapshot import Manifest

suite = Suite[SavedModel]()


@suite.at_least(0, "critical")
def the_chance_is_positive(model: SavedModel) -> float:
    """Return the chance of an empty session."""
    (chance,) = model.predict(sessions.instances([[]]))
    return float(chance)


class ConstantChance(tf.Module):
    """A model that gives the same chance to all sessions."""

    def __init__(self, chance: float) -> None:
        super().__init__()
        self._chance = chance

    @tf.function(input_signature=[tf.TensorSpec([None, None], type_, name) for name, type_ in sessions.INPUTS.items()])
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return {"cart": tf.fill([tf.shape(event_type)[0]], self._chance)}


def _share(part: Sessions) -> float:
    return float(np.mean(part.strings("event_type") == "add"))


def fit(
    folder: Path, manifest: Manifest, parameters: CartParameters, report: Report, checkpoint: Checkpoint | None
) -> FittedModel:
    share = _share(examples.read(folder / snapshot.INTENT, manifest.split, "fit")) / parameters.smoothing
    row = {"epoch": 1, "validation_share": share, "seconds": 0.0}
    report(row)
    return FittedModel(ConstantChance(share), parameters.model, {"cart": "float32"}, [row], {"validation_share": share})


def evaluate(folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None) -> EvaluationReport:
    test = examples.read(folder / snapshot.INTENT, manifest.split, "test")
    chances = asking.answers(challenger, test, np.arange(len(test)), test.lengths)["cart"]
    metrics = {"targets": len(test), "share": float(chances.mean())}
    baselines = {"none": ModelReport({"share": 0.0})}
    return EvaluationReport(ModelReport(metrics, behaviour=suite.run(challenger)), baselines=baselines)
