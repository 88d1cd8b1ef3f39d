"""The evaluation job: `python -m boat.evaluation.evaluate --kind recommend --model TAR --snapshot DIR --output FILE`.

The job scores exported archives on the test days of a snapshot, and compares them with simple baselines that learn from
the days before. See `boat.recommend.evaluation` and `boat.intent.evaluation`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pyarrow.compute as pc
import pyarrow.parquet as pq

from boat import kinds, memory, progress, settings, snapshot
from boat.compute.progress import run_as_job
from boat.errors import ArtifactError, DataError
from boat.evaluation.report import DataReport, EvaluationReport
from boat.kinds import KINDS, KindName
from boat.models import archive
from boat.models.archive import ModelManifest
from boat.models.served import SavedModel
from boat.snapshot import Manifest, Split


class EvaluationJob(Protocol):
    """The function of a kind's job module that the evaluation needs."""

    def evaluate(
        self, folder: Path, manifest: Manifest, challenger: SavedModel, champion: SavedModel | None
    ) -> EvaluationReport:
        """Score challenger, champion and baselines on the test days, and test the challenger's behaviour.

        Raises:
            DataError: The test days have no targets.
        """


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate one model. The exit code is 1 after an error, which the last line names."""
    parser = argparse.ArgumentParser(prog="python -m boat.evaluation.evaluate", description="Evaluate a model.")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--model", type=Path, required=True, help="the challenger's model.tar.gz")
    parser.add_argument("--champion", type=Path, help="the champion's model.tar.gz")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)

    def run() -> None:
        report = evaluate(options.kind, options.model, options.snapshot, options.champion)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(report.to_json(), encoding="utf-8")

    return run_as_job(run)


def evaluate(kind: KindName, model: Path, folder: Path, champion: Path | None = None) -> EvaluationReport:
    """Evaluate a challenger, the champion and the baselines on a snapshot's test days.

    Args:
        kind: Kind of the models.
        model: The challenger's archive.
        folder: The snapshot.
        champion: The champion's archive; None before the first promotion.

    Raises:
        ArtifactError: An archive or the snapshot is damaged, or an archive is of another kind.
        DataError: The test days have no targets, or a model was trained on them.
        SettingError: The evaluation needs more memory than it may use.
    """
    progress.report("reading the snapshot")
    manifest = snapshot.read(folder)
    evaluated = kinds.load(kind)
    memory.require(evaluated.needed_bytes(manifest), settings.job_memory(), "The evaluation")
    job: EvaluationJob = evaluated.job()
    ours, theirs = load_model(model, kind), load_model(champion, kind) if champion else None
    _require_unseen("challenger", ours.manifest, manifest.split)
    if theirs:
        _require_unseen("champion", theirs.manifest, manifest.split)
    report = job.evaluate(folder, manifest, ours, theirs)
    return replace(
        report,
        challenger=replace(report.challenger, model=ours.manifest.model),
        champion=replace(report.champion, model=theirs.manifest.model) if report.champion and theirs else None,
        data=_data(folder, manifest),
    )


def load_model(path: Path, kind: KindName) -> SavedModel:
    """Load an archive.

    Raises:
        ArtifactError: The archive is damaged, or of another kind.
    """
    with tempfile.TemporaryDirectory(prefix="boat-evaluate-") as temporary:
        folder = Path(temporary) / "model"
        manifest = archive.unpack(path, folder, archive.digest(path))
        if manifest.kind != kind:
            raise ArtifactError(
                f"{path} is a model of the kind {manifest.kind}, not {kind}.", "Pass an archive of that kind."
            )
        return SavedModel(folder, manifest)


def _require_unseen(name: str, model: ModelManifest, split: Split) -> None:
    """Check that a model was trained only on events before the test days.

    Archives of older versions of Boat do not record their newest event. None of them was trained on its test days.

    Raises:
        DataError: It was trained on later events.
    """
    if model.trained_until and datetime.fromisoformat(model.trained_until) >= split.test_from:
        raise DataError(
            f"The {name} was trained on events up to {model.trained_until}, but the test days begin at "
            f"{split.test_from.isoformat()}: its metrics would be too good.",
            "Evaluate the archive that was trained without the test days, or take a snapshot with later test days.",
        )


def _data(folder: Path, manifest: Manifest) -> DataReport:
    split = manifest.split
    starts = pq.read_table(folder / snapshot.RECOMMEND, columns=["started_at"])["started_at"]
    return DataReport(
        first_session=pc.min(starts).as_py().isoformat(),
        validation_from=split.validation_from.isoformat(),
        test_from=split.test_from.isoformat(),
        as_of=manifest.as_of.isoformat(),
        split_rule=split.rule,
        sessions=manifest.sessions,
        rows={name: file.rows for name, file in manifest.files.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
