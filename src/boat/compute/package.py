"""Boat's code for a job: a ZIP file named by its digest, and pinned packages that a stock image may lack."""

import hashlib
import importlib.metadata
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

import boat

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest time of the ZIP format: the same files give the same bytes
_NEEDED = ("boto3", "cloudpathlib", "numpy", "pandas", "pyarrow", "scikit-learn")


class CodePackage(NamedTuple):
    """Content of the ZIP file, and its SHA-256 in hex."""

    content: bytes
    digest: str


@cache
def code() -> CodePackage:
    """Return the source of the running package `boat`."""
    root = Path(boat.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            entry = zipfile.ZipInfo(f"boat/{path.relative_to(root).as_posix()}", _MOMENT)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
    return CodePackage(buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest())


@cache
def requirements() -> list[str]:
    """Return the packages that a job needs besides TensorFlow, pinned to the versions installed on this machine."""
    pins: dict[str, str] = {}
    pending = list(_NEEDED)
    while pending:
        name = pending.pop()
        if name not in pins:
            distribution = importlib.metadata.distribution(name)
            pins[name] = distribution.version
            needs = map(Requirement, distribution.requires or [])
            pending += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]
