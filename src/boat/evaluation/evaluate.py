"""The evaluation job: `python -m boat.evaluation.evaluate --kind recommend --model TAR --snapshot DIR --output FILE`.

Scores exported archives, strings in, on the test days of a snapshot, next to simple models that learned from all days
before. See `boat.recommend.evaluation` and `boat.intent.evaluation`.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat import kinds, snapshot
from boat.errors import ArtifactError, BoatError
from boat.kinds import KINDS, KindName
from boat.models import archive
from boat.models.served import SavedModel
from boat.snapshot import Manifest

Figures = dict[str, Any]


class EvaluationJob(Protocol):
    """The part of a kind's job module that evaluates."""

    def evaluate(
        self, folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None
    ) -> Mapping[str, Any]:
        """Score challenger, champion and baselines on the test days, and test the challenger's behaviour."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate one model; the exit code is 1 after an error that the last line names."""
    parser = argparse.ArgumentParser(prog="python -m boat.evaluation.evaluate", description="Score a model.")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the challenger's model.tar.gz")
    parser.add_argument("--champion", type=Path, help="the champion's model.tar.gz")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        figures = evaluate(options.kind, options.model, options.snapshot, options.champion)
    except BoatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(_plain(figures), indent=2) + "\n", encoding="utf-8")
    return 0


def evaluate(kind: KindName, model: Path, folder: Path, champion: Path | None = None) -> Figures:
    """Figures of a challenger, the champion (None without one) and the baselines on a snapshot's test days.

    Beside the figures of each there are how the challenger behaves, and `data`: what it was measured on.

    Args:
        kind: What the models predict.
        model: The challenger's archive.
        folder: The snapshot.
        champion: The champion's archive.

    Raises:
        ArtifactError: An archive or the snapshot is damaged, or of another kind.
        DataError: Nothing to predict on the test days.
    """
    manifest = snapshot.read(folder)
    job: EvaluationJob = kinds.load(kind).job()
    figures = job.evaluate(folder, manifest, _load(model, kind), _load(champion, kind) if champion else None)
    return {**figures, "data": _data(folder, manifest)}


def _plain(figures: Any) -> Any:
    """JSON has no NaN: a figure that cannot be had is null."""
    if isinstance(figures, dict):
        return {name: _plain(value) for name, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [_plain(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures


def _load(path: Path, kind: KindName) -> SavedModel:
    with tempfile.TemporaryDirectory(prefix="boat-evaluate-") as temporary:
        folder = Path(temporary) / "model"
        archive.unpack(path, folder, archive.digest(path))
        model = SavedModel(folder)
    if model.kind != kind:
        raise ArtifactError(f"{path} is a model of the kind {model.kind}, not {kind}.", "Pass another archive.")
    return model


def _data(folder: Path, manifest: Manifest) -> Figures:
    split = manifest.split
    begins = pq.read_table(folder / snapshot.RECOMMEND, columns=["started_at"])["started_at"]
    return {
        "first_session": pc.min(begins).as_py().isoformat(),
        "validation_from": split.validation_from.isoformat(),
        "test_from": split.test_from.isoformat(),
        "as_of": manifest.as_of.isoformat(),
        "split_rule": split.rule,
        "sessions": manifest.sessions,
        "rows": {name: file.rows for name, file in manifest.files.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
