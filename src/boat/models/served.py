"""An exported model that answers requests in the row format of TensorFlow Serving's REST interface."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boat.errors import ArtifactError, DataError
from boat.events import ValueProblem
from boat.kinds import KindName
from boat.models import sessions
from boat.models.archive import MODEL_FOLDER, ModelManifest

_SHAPE_HINT = "Build the instances with boat.models.sessions.instances."
_RETRAIN = "Train and export the model again."


class SavedModel:
    """A model loaded from an unpacked archive; safe to call from many threads.

    Args:
        folder: Folder with `boat.json` and the SavedModel in `1/`.
        manifest: Manifest of the model. `None`: it is read from the folder.

    Raises:
        ArtifactError: The manifest is missing, or TensorFlow cannot load the model with the expected signature.
    """

    def __init__(self, folder: Path, manifest: ModelManifest | None = None) -> None:
        import tensorflow as tf

        self.manifest = manifest or ModelManifest.read(folder)
        self.bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        try:
            # On self, because a signature holds only weak references to its variables.
            self._loaded = tf.saved_model.load(str(folder / MODEL_FOLDER))
            self._signature = self._loaded.signatures["serving_default"]
        except Exception as error:  # TensorFlow raises ValueError, AttributeError and more for a damaged file
            raise ArtifactError(f"TensorFlow cannot load the model in {folder} ({error}).", _RETRAIN) from error
        inputs = {name: spec.dtype.name for name, spec in self._signature.structured_input_signature[1].items()}
        if inputs != dict(sessions.INPUTS):
            raise ArtifactError(
                f"The model in {folder} has the inputs {inputs}, not {dict(sessions.INPUTS)}.", _RETRAIN
            )

    @property
    def kind(self) -> KindName:
        """Return the kind of model, such as `recommend`."""
        return self.manifest.kind

    def predict(self, instances: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Answer the `instances` of a request, in order.

        Args:
            instances: One mapping per session, from input names to lists of the same length.
                `boat.models.sessions.value` reads the values: ids may be numbers, and times ISO 8601 texts.

        Returns:
            The `predictions`: numbers if the model has a single output, else mappings from output names to lists.

        Raises:
            DataError: An input is missing, unknown, or of the wrong type or length.
        """
        outputs = self.answer(instances)
        rows = {name: _plain(values) for name, values in outputs.items()}
        if len(rows) == 1:
            return next(iter(rows.values()))
        return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]

    def answer(self, instances: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Answer the `instances` of a request with arrays, see `score`."""
        return self.score(_columns(instances))

    def score(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call the signature.

        Args:
            columns: An array [sessions, events] for each of `boat.models.sessions.INPUTS`. Strings are objects.

        Returns:
            An array for each output, its first axis sessions. Strings are bytes objects.
        """
        import tensorflow as tf

        outputs = self._signature(**{name: tf.constant(values) for name, values in columns.items()})
        return {name: tensor.numpy() for name, tensor in sorted(outputs.items())}

    def warm(self) -> None:
        """Answer a first request, so that no shopper waits while TensorFlow prepares the graph.

        Raises:
            ArtifactError: The model does not answer.
        """
        events: list[list[sessions.SessionEvent]] = [
            [],
            [{"event_type": "detail", "product_id": "warm-up", "event_time": 1.0}] * 2,
        ]
        try:
            self.predict(sessions.instances(events))
        except Exception as error:  # any error of the graph means a broken model
            raise ArtifactError(f"The {self.kind} model does not answer ({error}).", _RETRAIN) from error


def _columns(instances: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    if not isinstance(instances, (list, tuple)) or not instances:
        raise DataError("The request has no list of instances.", _SHAPE_HINT)
    for number, instance in enumerate(instances):
        if not isinstance(instance, Mapping) or set(instance) != set(sessions.INPUTS):
            raise DataError(f"Instance {number} does not have the inputs {', '.join(sessions.INPUTS)}.", _SHAPE_HINT)
    first = instances[0]["event_type"]
    length = len(first) if isinstance(first, list) else 0
    return {name: _column(instances, name, length) for name in sessions.INPUTS}


def _column(instances: Sequence[Mapping[str, Any]], name: str, length: int) -> np.ndarray:
    column = np.empty((len(instances), length), dtype=np.float64 if sessions.INPUTS[name] == "float64" else object)
    for number, instance in enumerate(instances):
        values = instance[name]
        if not isinstance(values, list) or len(values) != length:
            raise DataError(f"Input {name!r} of instance {number} is not a list of {length} values.", _SHAPE_HINT)
        column[number] = [_read(raw, name, number, event) for event, raw in enumerate(values)]
    return column


def _read(raw: Any, name: str, instance: int, event: int) -> float | bytes:
    try:
        value = sessions.value(name, raw)
        return value.encode() if isinstance(value, str) else value
    except ValueProblem as problem:
        reason = problem.message
    except UnicodeEncodeError as error:  # JSON may have half of a surrogate pair
        reason = f"is not text ({error})"
    raise DataError(f"Input {name!r} of instance {instance}, event {event} {reason}.", _SHAPE_HINT)


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype == object:
        return [[text.decode("utf-8") for text in row] for row in values.tolist()]
    plain: list[Any] = values.tolist()
    return plain
