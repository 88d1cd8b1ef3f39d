"""Export of a trained model as the archive that endpoints load."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tensorflow as tf

from boat.kinds import KindName
from boat.models import archive, sessions
from boat.models.archive import ModelManifest
from boat.models.fitted import FittedModel, Learned
from boat.version import code_version


def export(
    graph: tf.Module,
    path: Path,
    *,
    kind: KindName,
    model: str,
    outputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    snapshot_digest: str,
    products: int,
    learned: Learned | None = None,
) -> str:
    """Save a graph's function `serve` as the signature `serving_default` in a `model.tar.gz`.

    The other arguments are fields of `ModelManifest`.

    Returns:
        The archive's digest.
    """
    manifest = ModelManifest(
        kind=kind,
        model=model,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        parameters=parameters,
        inputs=sessions.INPUTS,
        outputs=outputs,
        metrics=metrics,
        snapshot_digest=snapshot_digest,
        products=products,
        code_version=code_version(),
        tensorflow_version=tf.__version__,
        trained_until=learned.until.isoformat() if learned else "",
        events=learned.events if learned else 0,
    )
    with tempfile.TemporaryDirectory(prefix="boat-export-") as temporary:
        folder = Path(temporary)
        tf.saved_model.save(graph, str(folder / archive.MODEL_FOLDER), signatures={"serving_default": graph.serve})
        manifest.write(folder)
        return archive.pack(folder, path)


def export_fitted(
    fitted: FittedModel, path: Path, *, kind: KindName, parameters: Mapping[str, Any], snapshot_digest: str = ""
) -> str:
    """Save a fitted model in a `model.tar.gz`; see `export`."""
    return export(
        fitted.graph,
        path,
        kind=kind,
        model=fitted.model,
        outputs=fitted.outputs,
        parameters=parameters,
        metrics=fitted.metrics,
        snapshot_digest=snapshot_digest,
        products=fitted.products,
        learned=fitted.learned,
    )
