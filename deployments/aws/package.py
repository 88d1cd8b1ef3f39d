"""Package code for the cloud. The same files give the same bytes, so that a package is named after its SHA-256."""

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from boat.errors import SettingError

_HERE = Path(__file__).parent
# Without ua-parser's Rust part, which differs by processor. The Python part takes 2 ms for a new user agent, and less
# than 30 ms for 512 characters that are chosen to be slow.
_COLLECTOR_LIBRARIES = ("ua_parser", "ua_parser_builtins")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time of a ZIP file
_MODE = 0o100644 << 16


@dataclass(frozen=True)
class Package:
    """A file for the code bucket.

    Attributes:
        key: Key in the bucket, with the digest of the content.
        content: The content.
    """

    key: str
    content: bytes

    @classmethod
    def of(cls, name: str, suffix: str, content: bytes) -> "Package":
        """Return a package with a key that contains the digest of its content."""
        return cls(f"{name}/{hashlib.sha256(content).hexdigest()}{suffix}", content)


def functions() -> Mapping[str, Package]:
    """Return the package of each Lambda function, by the template's parameter for its key."""
    return {
        "PredictKey": _function("predict"),
        "CollectKey": _function("collect", *_COLLECTOR_LIBRARIES),
    }


def _function(name: str, *libraries: str) -> Package:
    """Package a handler, `boat`, and the libraries that Lambda does not provide."""
    handler = _HERE / f"lambda_{name}.py"
    files = {file: path for library in ("boat", *libraries) for file, path in _modules(library)}
    return Package.of(name, ".zip", _zip({handler.name: handler, **files}))


def _modules(library: str) -> Iterator[tuple[str, Path]]:
    module = importlib.util.find_spec(library)
    if module is None or module.origin is None:
        raise SettingError(f"The package {library} is not installed.", "Install it: pip install 'boat[collect]'.")
    folder = Path(module.origin).parent
    for path in folder.rglob("*.py"):
        yield f"{library}/{path.relative_to(folder).as_posix()}", path


def _zip(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _MODE
            archive.writestr(entry, files[name].read_bytes())
    return buffer.getvalue()
