"""Code as it goes to the cloud: the same bytes from the same files, so that their SHA-256 names them."""

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from boat.errors import SettingError

_HERE = Path(__file__).parent
# Without ua-parser's Rust part, which is another file for each processor: the plain one takes 2 ms for a user agent it
# has not seen, and below 30 ms for 512 characters made to be slow.
_OF_COLLECTOR = ("ua_parser", "ua_parser_builtins")
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


def functions() -> Mapping[str, Package]:
    """The package of each Lambda function, by the template's parameter for its key."""
    return {
        "PredictKey": _function("predict"),
        "CollectKey": _function("collect", *_OF_COLLECTOR),
    }


def _function(duty: str, *libraries: str) -> Package:
    """A handler, the core it shares with the flows, and libraries that Lambda does not bring."""
    handler = _HERE / f"lambda_{duty}.py"
    files = {name: path for library in ("boat", *libraries) for name, path in _modules(library)}
    return Package.of(duty, ".zip", _zip({handler.name: handler, **files}))


def _modules(library: str) -> Iterator[tuple[str, Path]]:
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        raise SettingError(f"{library} is not installed.", "Install it: pip install 'boat[collect]'.")
    folder = Path(found.origin).parent
    for path in folder.rglob("*.py"):
        yield f"{library}/{path.relative_to(folder).as_posix()}", path


def _zip(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _MODE
            archive.writestr(entry, files[name].read_bytes())
    return buffer.getvalue()
