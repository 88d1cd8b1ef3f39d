"""The job that fits an archive to be released, and compares it with its evaluated twin.

`python -m boat.evaluation.twin --kind recommend --twin TAR --warm-start NPZ --snapshot DIR --output DIR` fits the model
of an archive again on all days. The twin was trained on the days before the test and evaluated. The new archive knows
the test days, so any metric of it on them would flatter it. It has to pass the behaviour tests, and to answer nearly
like its twin.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from boat import kinds, memory, progress, settings, snapshot
from boat.compute.progress import run_as_job
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.evaluate import load_model
from boat.evaluation.report import parsing
from boat.kinds import KINDS, KindName
from boat.models import archive
from boat.models.archive import ModelManifest
from boat.models.parameters import check
from boat.models.served import SavedModel
from boat.models.train import WARM_START, refit
from boat.snapshot import Manifest

COMPARISON = "comparison.json"
"""File with the `TwinReport`, beside the archive to be released."""


@dataclass(frozen=True)
class Content:
    """The content of an archive, by its manifest.

    Attributes:
        trained_until: Time of the newest event it was trained on, ISO 8601, UTC.
        events: Number of events it was trained on.
        products: Number of products in its vocabulary.
    """

    trained_until: str
    events: int
    products: int

    @classmethod
    def of(cls, manifest: ModelManifest) -> "Content":
        """Return the content of an archive with this manifest."""
        return cls(manifest.trained_until, manifest.events, manifest.products)


@dataclass(frozen=True)
class TwinReport:
    """The comparison of an archive to be released with its evaluated twin.

    Attributes:
        released: Content of the archive to be released.
        twin: Content of its twin.
        agreement: Similarity of their answers, from 0 to 1. Recommenders: the mean share of the first ten products that
            both list. Intent: the rank correlation of the chances, at least 0.
        behaviour: Results of the behaviour tests of the archive to be released.
    """

    released: Content
    twin: Content
    agreement: float
    behaviour: tuple[BehaviourResult, ...]

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, uri: str) -> "TwinReport":
        """Read a report.

        Args:
            text: JSON of `to_json`.
            uri: Its location, for the error message.

        Raises:
            DataError: The text is not a report of this version of Boat.
        """
        with parsing("a comparison", uri):
            content = json.loads(text)
            return cls(
                released=Content(**content["released"]),
                twin=Content(**content["twin"]),
                agreement=float(content["agreement"]),
                behaviour=tuple(BehaviourResult(**result) for result in content["behaviour"]),
            )


class TwinJob(Protocol):
    """The function of a kind's job module that the comparison needs."""

    def compare(
        self, folder: Path, manifest: Manifest, released: SavedModel, twin: SavedModel
    ) -> tuple[float, tuple[BehaviourResult, ...]]:
        """Return the agreement of two models on sessions of the test days, and the behaviour of the first one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit an archive to be released, and compare it. The exit code is 1 after an error, which the last line names."""
    parser = argparse.ArgumentParser(
        prog="python -m boat.evaluation.twin", description="Fit a model again on all days, and compare both."
    )
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--twin", type=Path, required=True, help="model.tar.gz that was evaluated")
    parser.add_argument("--warm-start", type=Path, required=True, help=f"{WARM_START} of its training")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot of its training")
    parser.add_argument("--output", type=Path, required=True, help=f"folder for model.tar.gz and {COMPARISON}")
    options = parser.parse_args(arguments)

    def run() -> None:
        kind = kinds.load(options.kind)
        parameters = check(archive.read_manifest(options.twin).parameters, kind.parameters)
        refit(kind, options.snapshot, options.output, parameters, options.warm_start)
        report = compare(kind.name, options.output / "model.tar.gz", options.twin, options.snapshot)
        (options.output / COMPARISON).write_text(report.to_json(), encoding="utf-8")

    return run_as_job(run)


def compare(kind: KindName, model: Path, twin: Path, folder: Path) -> TwinReport:
    """Compare an archive to be released with its evaluated twin.

    Args:
        kind: Kind of the models.
        model: The archive to be released.
        twin: The evaluated archive.
        folder: The snapshot of both.

    Raises:
        ArtifactError: An archive or the snapshot is damaged, or an archive is of another kind.
        SettingError: The comparison needs more memory than it may use.
    """
    progress.report("reading the snapshot")
    manifest = snapshot.read(folder)
    compared = kinds.load(kind)
    memory.require(compared.needed_bytes(manifest), settings.job_memory(), "The comparison")
    job: TwinJob = compared.job()
    released, evaluated = load_model(model, kind), load_model(twin, kind)
    agreement, behaviour = job.compare(folder, manifest, released, evaluated)
    return TwinReport(Content.of(released.manifest), Content.of(evaluated.manifest), agreement, behaviour)


if __name__ == "__main__":
    sys.exit(main())
