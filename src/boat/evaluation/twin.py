"""The comparison of an archive to be released with its evaluated twin.

`python -m boat.evaluation.twin --kind recommend --model TAR --twin TAR --snapshot DIR --output FILE` compares two
archives with the same parameters. The twin was trained on the days before the test and evaluated. The other archive was
trained on all days, so any metric of it on the test days would flatter it. It has to pass the behaviour tests, and to
answer nearly like its twin.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from boat import kinds, memory, progress, settings, snapshot
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.evaluate import job_parser, load_model, write_report
from boat.evaluation.report import parsing
from boat.kinds import KindName
from boat.models.archive import ModelManifest
from boat.models.served import SavedModel
from boat.snapshot import Manifest


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
    """Compare two archives. The exit code is 1 after an error, which the last line names."""
    parser = job_parser("twin", "Compare a model with its evaluated twin.")
    parser.add_argument("--twin", type=Path, required=True, help="model.tar.gz that was evaluated")
    options = parser.parse_args(arguments)
    return write_report(
        options.output, lambda: compare(options.kind, options.model, options.twin, options.snapshot).to_json()
    )


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
