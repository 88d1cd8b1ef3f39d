"""Code as it goes to the cloud: the same bytes from the same files, so that their SHA-256 names them."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import boat

LAMBDA = Path(__file__).with_name("lambda_predict.py")
_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can tell
_MODE = 0o100644 << 16


@dataclass(frozen=True)
class Package:
    """A file for the code bucket.

    Attributes:
        key: Under which it lies there; holds its digest.
        content: Its bytes.
    """

    key: str
    content: bytes

    @classmethod
    def of(cls, name: str, suffix: str, content: bytes) -> "Package":
        """A package called after its content."""
        return cls(f"{name}/{hashlib.sha256(content).hexdigest()}{suffix}", content)


def predict() -> Package:
    """The Lambda function behind `/predict`: its handler and the core it shares with the flows."""
    core = Path(boat.__file__).parent
    files = {f"boat/{path.relative_to(core).as_posix()}": path for path in core.rglob("*.py")}
    return Package.of("predict", ".zip", _zip({LAMBDA.name: LAMBDA, **files}))


def _zip(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _MODE
            archive.writestr(entry, files[name].read_bytes())
    return buffer.getvalue()
