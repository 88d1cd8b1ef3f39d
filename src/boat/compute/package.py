"""Boat's code as a job gets it: a ZIP file called after its digest, and pins of what a stock image may lack."""

import hashlib
import importlib.metadata
import io
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

import boat

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can tell: the same files give the same bytes
_NEEDED = ("boto3", "cloudpathlib", "numpy", "pandas", "pyarrow", "scikit-learn")


class CodePackage(NamedTuple):
    """Code, and its SHA-256 in hex."""

    content: bytes
    digest: str


@cache
def code() -> CodePackage:
    """The package `boat` as it is here."""
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
    """Pins, at the versions that are installed here, of what a job needs beside TensorFlow."""
    pins: dict[str, str] = {}
    wanted = list(_NEEDED)
    while wanted:
        name = wanted.pop()
        if name not in pins:
            found = importlib.metadata.distribution(name)
            pins[name] = found.version
            needs = map(Requirement, found.requires or [])
            wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]
