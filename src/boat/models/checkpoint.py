"""The state of a training after each epoch, so that one whose host is lost goes on where it was."""

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class State:
    """All that the epochs to come depend on.

    Attributes:
        arrays: Values of all variables by the group they belong to, such as `network` and `optimizer`.
        progress: Figures and limits so far, as JSON takes them; states of random generators among them.
    """

    arrays: Mapping[str, Sequence[np.ndarray]]
    progress: Mapping[str, Any]


class Checkpoint:
    """A file with the state of one training; replaced in one move, so that it is whole or the one before.

    Args:
        path: The file.
        about: What the training is made from. A file about another training is not gone on with.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path, self._about = path, json.loads(json.dumps(about))

    def save(self, state: State) -> None:
        """Replace the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "about": self._about,
            "progress": state.progress,
            "sizes": {group: len(arrays) for group, arrays in state.arrays.items()},
        }
        named = {f"{group}.{n}": array for group, arrays in state.arrays.items() for n, array in enumerate(arrays)}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(told)), **named)  # type: ignore[arg-type]  # names are free
        os.replace(temporary, self._path)

    def load(self) -> State | None:
        """The state; None where there is none, or one of another training."""
        try:
            with np.load(self._path, allow_pickle=False) as file:
                told = json.loads(str(file["told"]))
                if told["about"] != self._about:
                    return None
                groups = {group: [file[f"{group}.{n}"] for n in range(size)] for group, size in told["sizes"].items()}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # there is none, or it is damaged: to train anew is always right
        return State(groups, told["progress"])
