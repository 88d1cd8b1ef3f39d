"""The part of a fitted model from which a later fit on more sessions starts."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boat.errors import ArtifactError

if TYPE_CHECKING:
    import keras

_HEADER = "header"
_WEIGHT = "weight."  # and its number: arrays of a network's weights


@dataclass(frozen=True)
class WarmStart:
    """The weights of a fitted model, and the values that the validation days have chosen.

    Attributes:
        model: Name of the model in its family; never `auto`.
        arrays: Weights and names, by name.
        choices: JSON values that the validation days have chosen, such as the weights of a blend.
    """

    model: str
    arrays: Mapping[str, np.ndarray]
    choices: Mapping[str, Any]

    @property
    def weights(self) -> list[np.ndarray]:
        """Return the weights of `arrays_of`, in the order of the network."""
        return [self.arrays[f"{_WEIGHT}{number}"] for number in range(sum(map(_is_weight, self.arrays)))]

    def write(self, path: Path) -> None:
        """Write the file."""
        header = json.dumps({"model": self.model, "choices": self.choices})
        with path.open("wb") as file:
            np.savez(file, **{_HEADER: np.array(header)}, **self.arrays)  # type: ignore[arg-type]  # any name

    @classmethod
    def read(cls, path: Path) -> "WarmStart":
        """Read a file of `write`.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file[_HEADER]))
                arrays = {name: file[name] for name in file.files if name != _HEADER}
                return cls(header["model"], arrays, header["choices"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"{path} is not the warm start of a model ({error!r}).", "Run `retrain` again: it trains a new model."
            ) from error


def arrays_of(network: "keras.Model") -> dict[str, np.ndarray]:
    """Return the weights of a network as arrays of a warm start."""
    return {f"{_WEIGHT}{number}": weight.numpy() for number, weight in enumerate(network.weights)}


def _is_weight(name: str) -> bool:
    return name.startswith(_WEIGHT)
