"""The artifact store: a folder, or `s3://bucket/prefix`. What is there is whole, and is fetched byte for byte.

A published folder on S3 has an index beside its files, `_files.json`, with the SHA-256 of each. It is written last: a
folder without it is not there yet. A folder of this machine is used where it lies.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from boat.errors import ArtifactError, SettingError

if TYPE_CHECKING:
    from cloudpathlib import S3Path

INDEX = "_files.json"


def is_remote(uri: str) -> bool:
    """Whether a URI is of a cloud store, not of this machine."""
    return "://" in uri


def join(store: str, *parts: str) -> str:
    """The URI of something in a store."""
    return "/".join([store.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Whether a file, or a whole folder, has been published there."""
    if not is_remote(uri):
        return Path(uri).exists()
    return _path(uri).is_file() or _path(join(uri, INDEX)).is_file()


def read_text(uri: str) -> str:
    """The content of a small published file."""
    if not is_remote(uri):
        return Path(uri).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:  # not cloudpathlib's own cache, which may be a second behind
        return Path(_path(uri).download_to(Path(folder) / "content")).read_text(encoding="utf-8")


def names(uri: str) -> list[str]:
    """What has been published right below a URI, sorted; nothing where nothing has."""
    folder = _path(uri) if is_remote(uri) else Path(uri)
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def publish(local: Path, uri: str) -> str:
    """Put a file or a folder into a store; returns `uri`. Doing it again changes nothing.

    Raises:
        ArtifactError: There is no such file or folder.
    """
    if not local.exists():
        raise ArtifactError(f"There is no {local} to publish as {uri}.", "Was it made?")
    if not is_remote(uri):
        _copy(local, Path(uri))
    elif local.is_file():
        _path(uri).upload_from(local, force_overwrite_to_cloud=True)
    else:
        files = {path.relative_to(local).as_posix(): path for path in sorted(local.rglob("*")) if path.is_file()}
        for name, path in files.items():
            _path(join(uri, name)).upload_from(path, force_overwrite_to_cloud=True)
        index = {name: _sha256(path) for name, path in files.items()}
        publish_bytes(json.dumps(index, indent=2).encode(), join(uri, INDEX))
    return uri


def publish_bytes(content: bytes, uri: str) -> str:
    """Put a file that is in memory into a store; returns `uri`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        return publish(path, uri)


def fetch(uri: str, cache: Path) -> Path:
    """A published file or folder on this machine, under its own name; one of this machine is where it was.

    Args:
        uri: What was published.
        cache: Folder for what comes from afar. What is in it already, with the same content, is not fetched again.

    Raises:
        ArtifactError: It is not there, or a file is not what the index says.
    """
    if not is_remote(uri):
        return Path(uri)
    index, file = join(uri, INDEX), _path(uri)
    files: dict[str, str] = {}
    if _path(index).is_file():
        state = read_text(index)
        files = json.loads(state)
    elif file.is_file():
        state = file.etag
    else:
        raise ArtifactError(f"Nothing is published at {uri}.", "Make it again, or correct the artifact store.")
    folder = cache / hashlib.sha256(f"{uri} {state}".encode()).hexdigest()[:32]
    if not folder.exists():
        _download(uri, files, folder)
    return folder / file.name


def remove(uri: str) -> None:
    """Delete a file, if it is there."""
    if is_remote(uri):
        _path(uri).unlink(missing_ok=True)
    else:
        Path(uri).unlink(missing_ok=True)


def _download(uri: str, files: dict[str, str], into: Path) -> None:
    """Fill `into` in one move: it is whole, or not there."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=into.parent) as temporary:
        target = Path(temporary) / "fetched" / _path(uri).name
        target.parent.mkdir()
        if not files:
            _path(uri).download_to(target)
        for name, digest in files.items():
            path = target / name
            if not path.resolve().is_relative_to(target.resolve()):
                raise ArtifactError(f"The index of {uri} names {name!r}, which lies outside it.", "Make it again.")
            path.parent.mkdir(parents=True, exist_ok=True)
            _path(join(uri, name)).download_to(path)
            if _sha256(path) != digest:
                raise ArtifactError(f"{join(uri, name)} is not what its index says.", "Make it again.")
        try:
            os.rename(target.parent, into)
        except OSError:
            if not into.exists():
                raise
            # else another process has fetched it at the same moment


def _copy(local: Path, to: Path) -> None:
    if local.resolve() == to.resolve():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    if local.is_dir():
        shutil.copytree(local, to, dirs_exist_ok=True)
        return
    with tempfile.NamedTemporaryFile(dir=to.parent, delete=False) as temporary:
        temporary.write(local.read_bytes())
    os.replace(temporary.name, to)


def _path(uri: str) -> "S3Path":
    try:
        from cloudpathlib import S3Path
    except ImportError as error:
        raise SettingError(f"{uri} needs a package ({error}).", "Install it: pip install 'boat[flows]'.") from error
    if not uri.startswith("s3://"):
        raise SettingError(f"{uri} is of no store that is known.", "Use a folder, or s3://BUCKET/PREFIX.")
    return S3Path(uri)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
