"""The training job: `python -m boat.models.train --kind recommend --snapshot DIR --output DIR --parameters JSON`.

Reads only the snapshot, prints `boat.compute.progress` lines, and leaves `model.tar.gz`, `metrics.json` (figures of the
validation split) and `curve.json` (one mapping an epoch) in the output folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import boat
from boat import snapshot
from boat.compute.progress import report
from boat.errors import BoatError, DataError
from boat.intent.parameters import IntentParameters
from boat.models.parameters import parse
from boat.recommend.parameters import RecommendParameters
from boat.snapshot import Manifest

if TYPE_CHECKING:
    from boat.intent.family import Fitted as FittedIntent
    from boat.models.checkpoint import Checkpoint
    from boat.recommend.family import Fitted as FittedRecommend


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model; the exit code is 1 after an error that the last line names."""
    parser = argparse.ArgumentParser(prog="python -m boat.models.train", description="Train a model from a snapshot.")
    parser.add_argument("--kind", choices=("recommend", "intent"), required=True)
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model and its figures")
    parser.add_argument("--parameters", default="{}", help='such as {"seed": 1}')
    parser.add_argument("--export", choices=("yes", "no"), default="yes", help="no: only the figures, as for a trial")
    parser.add_argument("--checkpoint", type=Path, help="file that keeps its state, and that it goes on from")
    options = parser.parse_args(arguments)
    try:
        train = train_recommend if options.kind == "recommend" else train_intent
        train(options.snapshot, options.output, options.parameters, options.checkpoint, options.export == "yes")
    except BoatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def train_recommend(
    folder: Path, output: Path, parameters_json: str = "{}", checkpoint: Path | None = None, to_export: bool = True
) -> str:
    """Train and export the next-item model that the parameters name.

    Returns:
        The archive's digest; empty where it is not to be exported.

    Raises:
        ArtifactError: The snapshot is damaged.
        DataError: Too little in it.
        SettingError: A parameter that cannot work.
    """
    parameters = parse(parameters_json, RecommendParameters)
    manifest = snapshot.read(folder)
    from boat.models import examples
    from boat.models.export import export
    from boat.recommend import catalogue, family
    from boat.recommend.graph import OUTPUTS

    path = folder / snapshot.RECOMMEND
    train = examples.read(path, manifest.split, "train")
    validation = examples.read(path, manifest.split, "validation")
    both = examples.read(path, manifest.split, "fit")
    described = catalogue.read(folder)
    if described.left_out:
        print(f"{described.left_out} products have description vectors unlike the others': they are left out.")
    kept = _kept(checkpoint, parameters, manifest)
    fitted = family.fit(train, validation, both, parameters, _report, kept, described)
    _write(fitted, output)
    if not to_export:
        return ""
    return export(
        fitted.graph,
        output / "model.tar.gz",
        kind="recommend",
        model=parameters.model,
        outputs=OUTPUTS,
        parameters=asdict(parameters),
        metrics=fitted.metrics,
        snapshot_digest=manifest.digest,
        products=fitted.products,
    )


def train_intent(
    folder: Path, output: Path, parameters_json: str = "{}", checkpoint: Path | None = None, to_export: bool = True
) -> str:
    """Train and export the purchase-intent model.

    Returns:
        The archive's digest; empty where it is not to be exported.

    Raises:
        ArtifactError: The snapshot is damaged.
        DataError: Nobody buys, or everybody does, in a part of it.
        SettingError: A parameter that cannot work.
    """
    parameters = parse(parameters_json, IntentParameters)
    manifest = snapshot.read(folder)
    if manifest.intent_obstacle:
        raise DataError(f"No intent model: {manifest.intent_obstacle}.", "Train the recommendations alone.")
    from boat.intent import family
    from boat.intent.features import histories
    from boat.intent.graph import OUTPUTS
    from boat.models import examples
    from boat.models.export import export

    path = folder / snapshot.INTENT
    train, validation, both = (
        histories(examples.read(path, manifest.split, "train")),
        histories(examples.read(path, manifest.split, "validation")),
        histories(examples.read(path, manifest.split, "fit")),
    )
    fitted = family.fit(train, validation, both, parameters, _report, _kept(checkpoint, parameters, manifest))
    _write(fitted, output)
    if not to_export:
        return ""
    return export(
        fitted.graph,
        output / "model.tar.gz",
        kind="intent",
        model=fitted.model,
        outputs=OUTPUTS,
        parameters=asdict(parameters),
        metrics=fitted.metrics,
        snapshot_digest=manifest.digest,
        products=0,
    )


def _kept(
    path: Path | None, parameters: RecommendParameters | IntentParameters, manifest: Manifest
) -> "Checkpoint | None":
    from boat.models.checkpoint import Checkpoint

    about = {"parameters": asdict(parameters), "snapshot": manifest.digest, "code": boat.__version__}
    return Checkpoint(path, about) if path else None


def _report(figures: Mapping[str, float]) -> None:
    report(**figures)


def _write(fitted: "FittedRecommend | FittedIntent", output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "metrics.json").write_text(json.dumps(fitted.metrics, indent=2) + "\n", encoding="utf-8")
    (output / "curve.json").write_text(json.dumps(fitted.curve, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
