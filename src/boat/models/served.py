"""An exported model that answers: rows in and out as TensorFlow Serving's REST interface has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boat.errors import ArtifactError, DataError
from boat.events import ValueProblem
from boat.kinds import KindName
from boat.models import sessions
from boat.models.archive import MODEL_FOLDER, ModelManifest

_SHAPE_HINT = "Build them with boat.models.sessions.instances."


class SavedModel:
    """A model loaded from an unpacked archive; safe to call from many threads.

    Args:
        folder: Holds `boat.json` and the SavedModel under `1/`.
        manifest: Its manifest; read from the folder if None.

    Raises:
        ArtifactError: No manifest, or TensorFlow cannot load it with the agreed signature.
    """

    def __init__(self, folder: Path, manifest: ModelManifest | None = None) -> None:
        import tensorflow as tf

        self.manifest = manifest or ModelManifest.read(folder)
        self.bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        try:
            # Kept on self: a signature only holds its variables weakly.
            self._loaded = tf.saved_model.load(str(folder / MODEL_FOLDER))
            self._signature = self._loaded.signatures["serving_default"]
        except Exception as error:  # TensorFlow raises many kinds, ValueError to AttributeError, for a damaged file
            raise ArtifactError(f"TensorFlow cannot load the model in {folder} ({error}).", "Retrain it.") from error
        inputs = {name: spec.dtype.name for name, spec in self._signature.structured_input_signature[1].items()}
        if inputs != dict(sessions.INPUTS):
            raise ArtifactError(f"The model in {folder} takes {inputs}, not {dict(sessions.INPUTS)}.", "Retrain it.")

    @property
    def kind(self) -> KindName:
        """`recommend` or `intent`."""
        return self.manifest.kind

    def predict(self, instances: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Answer the `instances` of a request, in order.

        Args:
            instances: One mapping a session, of the input names to lists that are all equally long. Their values are
                read by `boat.models.sessions.value`, so that ids may be numbers and times ISO 8601 texts.

        Returns:
            The `predictions`: numbers where the model has one output, else mappings of the output names to lists.

        Raises:
            DataError: An input is missing, unknown, of a wrong type, or not as long as the others.
        """
        outputs = self.answer(instances)
        rows = {name: _plain(values) for name, values in outputs.items()}
        if len(rows) == 1:
            return next(iter(rows.values()))
        return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]

    def answer(self, instances: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """The same as arrays, see `score`."""
        return self.score(_columns(instances))

    def score(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call the signature.

        Args:
            columns: An array [sessions, events] for each of `boat.models.sessions.INPUTS`; strings as objects.

        Returns:
            An array for each output, first axis sessions; strings as bytes objects.
        """
        import tensorflow as tf

        outputs = self._signature(**{name: tf.constant(values) for name, values in columns.items()})
        return {name: tensor.numpy() for name, tensor in sorted(outputs.items())}

    def warm(self) -> None:
        """Answer once, so that the first shopper does not wait for the graph to be prepared.

        Raises:
            ArtifactError: The model does not answer.
        """
        events: list[list[sessions.SessionEvent]] = [
            [],
            [{"event_type": "detail", "product_id": "warm-up", "event_time": 1.0}] * 2,
        ]
        try:
            self.predict(sessions.instances(events))
        except Exception as error:  # whatever the graph raises, it is the model that is broken
            raise ArtifactError(f"The {self.kind} model does not answer ({error}).", "Retrain it.") from error


def _columns(instances: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    if not isinstance(instances, (list, tuple)) or not instances:
        raise DataError("The request holds no list of instances.", _SHAPE_HINT)
    for number, instance in enumerate(instances):
        if not isinstance(instance, Mapping) or set(instance) != set(sessions.INPUTS):
            raise DataError(f"Instance {number} has not the inputs {', '.join(sessions.INPUTS)}.", _SHAPE_HINT)
    first = instances[0]["event_type"]
    length = len(first) if isinstance(first, list) else 0
    return {name: _column(instances, name, length) for name in sessions.INPUTS}


def _column(instances: Sequence[Mapping[str, Any]], name: str, length: int) -> np.ndarray:
    column = np.empty((len(instances), length), dtype=np.float64 if sessions.INPUTS[name] == "float64" else object)
    for number, instance in enumerate(instances):
        values = instance[name]
        if not isinstance(values, list) or len(values) != length:
            raise DataError(f"Input {name!r} of instance {number} is not a list of {length} values.", _SHAPE_HINT)
        column[number] = [_read(raw, name, number, place) for place, raw in enumerate(values)]
    return column


def _read(raw: Any, name: str, instance: int, place: int) -> float | bytes:
    try:
        value = sessions.value(name, raw)
        return value.encode() if isinstance(value, str) else value
    except ValueProblem as problem:
        reason = problem.message
    except UnicodeEncodeError as error:  # JSON can hold half a surrogate pair
        reason = f"is not text ({error})"
    raise DataError(f"Input {name!r} of instance {instance}, event {place} {reason}.", _SHAPE_HINT)


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype == object:
        return [[text.decode("utf-8") for text in row] for row in values.tolist()]
    plain: list[Any] = values.tolist()
    return plain
