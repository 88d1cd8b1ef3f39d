"""The version of the code by its content, so that the lineage of a model needs no git."""

import hashlib
from pathlib import Path

import boat


def code_version() -> str:
    """Return the version and a digest of this package's sources, such as `0.1.0+3f9a2c41d07e`."""
    root = Path(boat.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{boat.__version__}+{digest.hexdigest()[:12]}"
