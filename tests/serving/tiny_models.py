"""Tiny models with the agreed signature. Their answers show which model answered, and which session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from boat.kinds import KindName
from boat.models.archive import ModelManifest, pack
from boat.models.sessions import INPUTS
from boat.serving import ServedModel

Answer = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def recommending(label: str) -> Answer:
    """Return a model that ranks the session's last product first, then 19 products named after the model."""

    def answer(event_type: tf.Tensor, product_id: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(event_type)[0]
        named = tf.tile(tf.constant([[f"{label}-{rank}" for rank in range(19)]]), [count, 1])
        scores = tf.tile(tf.linspace([1.0], [0.05], 20, axis=1), [count, 1])
        return {"product_id": tf.concat([product_id[:, -1:], named], axis=1), "score": scores}

    return answer


def intending(share: float) -> Answer:
    """Return a model that predicts this probability for every session."""
    return lambda event_type, product_id: {"purchase": tf.fill([tf.shape(event_type)[0]], share)}


def failing() -> Answer:
    """Return a model that can be loaded but not called."""

    def answer(event_type: tf.Tensor, product_id: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.Assert(tf.size(event_type) < 0, ["broken on purpose"])]):
            return {"purchase": tf.fill([tf.shape(event_type)[0]], 0.5)}

    return answer


def export(folder: Path, kind: KindName, answer: Answer, version: str = "1") -> ServedModel:
    """Write a model to `folder/model.tar.gz`."""
    tensors = [tf.TensorSpec([None, None], kind_, name) for name, kind_ in INPUTS.items()]

    class Model(tf.Module):
        @tf.function(input_signature=tensors)
        def serve(
            self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            return answer(event_type, product_id)

    model = Model()
    tf.saved_model.save(model, str(folder / "content" / "1"), signatures={"serving_default": model.serve})
    _manifest(kind).write(folder / "content")
    archive = folder / "model.tar.gz"
    return ServedModel(uri=str(archive), digest=pack(folder / "content", archive), version=version)


def _manifest(kind: KindName) -> ModelManifest:
    fields: dict[str, Any] = {key: {} for key in ("parameters", "inputs", "outputs", "metrics")}
    return ModelManifest(
        kind=kind,
        model="tiny",
        created_at="2026-01-01T00:00:00+00:00",
        snapshot_digest="0" * 64,
        products=20,
        code_version="0",
        tensorflow_version=tf.__version__,
        **fields,
    )
