"""The state of a training after each epoch, so that a training that lost its host can resume."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = "told"  # its name in the file; another name would discard the checkpoints of running trainings


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next epochs depend on.

    Attributes:
        arrays: Values of all variables by group, such as `network` and `optimizer`.
        progress: Figures and limits so far, and the states of the random generators, as JSON values.
    """

    arrays: Mapping[str, Sequence[np.ndarray]]
    progress: Mapping[str, Any]


class Checkpoint:
    """A file with the state of one training. It is replaced atomically, so that it is always complete.

    Args:
        path: Path of the file.
        about: Parameters, snapshot and code of the training. A file with other values is ignored.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path, self._about = path, json.loads(json.dumps(about))

    def save(self, state: TrainingState) -> None:
        """Write the state of a training, replacing the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        header = {
            "about": self._about,
            "progress": state.progress,
            "sizes": {group: len(arrays) for group, arrays in state.arrays.items()},
        }
        members = {f"{group}.{n}": array for group, arrays in state.arrays.items() for n, array in enumerate(arrays)}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, **{_HEADER: np.array(json.dumps(header)), **members})  # type: ignore[arg-type]  # any name
        os.replace(temporary, self._path)

    def load(self) -> TrainingState | None:
        """Return the saved state. `None` if the file is missing, damaged or about another training."""
        try:
            with np.load(self._path, allow_pickle=False) as file:
                header = json.loads(str(file[_HEADER]))
                if header["about"] != self._about:
                    return None
                groups = {group: [file[f"{group}.{n}"] for n in range(size)] for group, size in header["sizes"].items()}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # missing or damaged: a training from the start is always correct
        return TrainingState(groups, header["progress"])
