"""The training job: `python -m boat.models.train --kind recommend --snapshot DIR --output DIR --parameters JSON`.

The job reads only the snapshot and prints `boat.compute.progress` lines. It writes `model.tar.gz`, `metrics.json`
(validation metrics) and `curve.json` (the metrics of each epoch) to the output folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boat
from boat import kinds, memory, progress, settings, snapshot
from boat.compute.progress import report, run_as_job
from boat.errors import DataError
from boat.kinds import KINDS, Kind, TrainingParameters
from boat.models.fitted import FittedModel, Report
from boat.models.parameters import parse
from boat.snapshot import Manifest

if TYPE_CHECKING:
    from boat.models.checkpoint import Checkpoint
    from boat.models.warm_start import WarmStart

WARM_START = "warm_start.npz"
"""File beside the archive of a training, from which its model can be refitted."""


class TrainingJob(Protocol):
    """The part of a kind's job module that trains."""

    def fit(
        self, folder: Path, manifest: Manifest, parameters: Any, report: Report, checkpoint: "Checkpoint | None"
    ) -> FittedModel:
        """Fit a model to the examples of a snapshot.

        Raises:
            DataError: The snapshot has too few examples.
        """

    def refit(self, folder: Path, manifest: Manifest, parameters: Any, warm_start: "WarmStart") -> FittedModel:
        """Fit a model again on all days of a snapshot, without validation."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model. The exit code is 1 after an error, which the last line names."""
    parser = argparse.ArgumentParser(prog="python -m boat.models.train", description="Train a model from a snapshot.")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model and its metrics")
    parser.add_argument("--parameters", default="{}", help='JSON such as {"seed": 1}')
    parser.add_argument("--export", choices=("yes", "no"), default="yes", help="no: only metrics, for a tuning trial")
    parser.add_argument("--checkpoint", type=Path, help="file for the state after each epoch, to resume from")
    options = parser.parse_args(arguments)

    def run() -> None:
        kind = kinds.load(options.kind)
        parameters = parse(options.parameters, kind.parameters)
        train(kind, options.snapshot, options.output, parameters, options.checkpoint, options.export == "yes")

    return run_as_job(run)


def train(
    kind: Kind,
    folder: Path,
    output: Path,
    parameters: TrainingParameters,
    checkpoint: Path | None = None,
    to_export: bool = True,
) -> str:
    """Fit the model that the parameters name to a snapshot, and export it with its `WARM_START`.

    Returns:
        The archive's digest; empty if nothing is exported.

    Raises:
        ArtifactError: The snapshot is damaged.
        DataError: The snapshot has too few examples.
        SettingError: The training needs more memory than it may use.
    """
    progress.report("reading the snapshot")
    manifest = snapshot.read(folder)
    obstacle = kind.obstacle(manifest)
    if obstacle:
        raise DataError(
            f"Cannot train the {kind.name} model: {obstacle}.",
            "Increase `days` of `retrain`, load events of more days, or train other kinds.",
        )
    memory.require(kind.needed_bytes(manifest), settings.job_memory(), "The training")
    job: TrainingJob = kind.job()
    fitted = job.fit(folder, manifest, parameters, _report, _checkpoint(checkpoint, parameters, manifest))
    _write(fitted, output)
    if not to_export:
        return ""
    if fitted.warm_start:
        fitted.warm_start.write(output / WARM_START)
    return _export(kind, fitted, output, parameters, manifest)


def refit(kind: Kind, folder: Path, output: Path, parameters: TrainingParameters, warm_start: Path) -> str:
    """Fit a trained model again on all days of its snapshot, and export it. It is never evaluated on these days.

    Args:
        kind: Kind of the model.
        folder: The snapshot.
        output: Folder for the model and its metrics.
        parameters: Parameters of the training.
        warm_start: `WARM_START` of the training.

    Returns:
        The archive's digest.

    Raises:
        ArtifactError: The snapshot or the warm start is damaged.
        SettingError: The training needs more memory than it may use.
    """
    progress.report("reading the snapshot")
    manifest = snapshot.read(folder)
    memory.require(kind.needed_bytes(manifest), settings.job_memory(), "The training")
    from boat.models.warm_start import WarmStart

    job: TrainingJob = kind.job()
    fitted = job.refit(folder, manifest, parameters, WarmStart.read(warm_start))
    _write(fitted, output)
    return _export(kind, fitted, output, parameters, manifest)


def _export(kind: Kind, fitted: FittedModel, output: Path, parameters: TrainingParameters, manifest: Manifest) -> str:
    from boat.models.export import export_fitted

    progress.report("exporting the model")
    path, digest = output / "model.tar.gz", manifest.digest
    return export_fitted(fitted, path, kind=kind.name, parameters=asdict(parameters), snapshot_digest=digest)


def _checkpoint(path: Path | None, parameters: TrainingParameters, manifest: Manifest) -> "Checkpoint | None":
    if path is None:
        return None
    from boat.models.checkpoint import Checkpoint

    about = {"parameters": asdict(parameters), "snapshot": manifest.digest, "code": boat.__version__}
    return Checkpoint(path, about)


def _report(metrics: Mapping[str, float]) -> None:
    report(**metrics)


def _write(fitted: FittedModel, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").write_text(json.dumps(fitted.metrics, indent=2) + "\n", encoding="utf-8")
    (output / "curve.json").write_text(json.dumps(fitted.curve, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
