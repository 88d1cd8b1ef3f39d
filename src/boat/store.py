"""The artifact store: a folder, or `s3://bucket/prefix`. It never returns a part of an artifact.

A published folder on S3 also has an index, `_files.json`, with the SHA-256 of each file. The index is uploaded last: a
folder without an index is not published yet. A local folder is used directly, without a copy.
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
    """Return whether a URI is in a cloud store, not on this machine."""
    return "://" in uri


def join(store: str, *parts: str) -> str:
    """Return the URI of an artifact in a store."""
    return "/".join([store.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Return whether a file or a complete folder has been published at a URI."""
    if not is_remote(uri):
        return Path(uri).exists()
    return _path(uri).is_file() or _path(join(uri, INDEX)).is_file()


def read_text(uri: str) -> str:
    """Return the content of a small published file."""
    if not is_remote(uri):
        return Path(uri).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:  # cloudpathlib's own cache may be a second behind
        return Path(_path(uri).download_to(Path(folder) / "content")).read_text(encoding="utf-8")


def names(uri: str) -> list[str]:
    """Return the sorted names directly below a URI. Empty if the folder does not exist."""
    folder = _path(uri) if is_remote(uri) else Path(uri)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def publish(local: Path, uri: str) -> str:
    """Publish a file or a folder and return its URI. A second call changes nothing.

    Raises:
        ArtifactError: The file or folder does not exist.
    """
    if not local.exists():
        raise ArtifactError(f"Cannot publish {local} as {uri}: it does not exist.", "Create it first.")
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
    """Publish bytes as a file and return its URI."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content"
        path.write_bytes(content)
        return publish(path, uri)


def fetch(uri: str, cache: Path) -> Path:
    """Return the local path of a published file or folder. Download it if it is on S3.

    Args:
        uri: URI of the file or folder.
        cache: Folder for downloads. The same content is downloaded only once.

    Raises:
        ArtifactError: Nothing is published at the URI, or a file does not match the index.
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
        raise ArtifactError(
            f"Nothing is published at {uri}.", "Publish it again, or correct the URI of the artifact store."
        )
    folder = cache / hashlib.sha256(f"{uri} {state}".encode()).hexdigest()[:32]
    if not folder.exists():
        _download(uri, files, folder)
    return folder / file.name


def remove(uri: str) -> None:
    """Delete a file if it exists."""
    if is_remote(uri):
        _path(uri).unlink(missing_ok=True)
    else:
        Path(uri).unlink(missing_ok=True)


def _download(uri: str, files: dict[str, str], folder: Path) -> None:
    """Download into a temporary folder first, so that `folder` is complete or does not exist."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as temporary:
        target = Path(temporary) / "fetched" / _path(uri).name
        target.parent.mkdir()
        if not files:
            _path(uri).download_to(target)
        for name, digest in files.items():
            path = target / name
            if not path.resolve().is_relative_to(target.resolve()):
                raise ArtifactError(
                    f"The index of {uri} has the path {name!r}, which is outside the folder.", "Publish it again."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            _path(join(uri, name)).download_to(path)
            if _sha256(path) != digest:
                raise ArtifactError(f"{join(uri, name)} does not match the digest in its index.", "Publish it again.")
        try:
            os.rename(target.parent, folder)
        except OSError:
            if not folder.exists():
                raise
            # else another process has downloaded it at the same time


def _copy(local: Path, target: Path) -> None:
    if local.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if local.is_dir():
        shutil.copytree(local, target, dirs_exist_ok=True)
        return
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as temporary:
        temporary.write(local.read_bytes())
    os.replace(temporary.name, target)


def _path(uri: str) -> "S3Path":
    try:
        from cloudpathlib import S3Path
    except ImportError as error:
        raise SettingError(
            f"Cannot use {uri}: a package is missing ({error}).", "Install it: pip install 'boat[flows]'."
        ) from error
    if not uri.startswith("s3://"):
        raise SettingError(
            f"Cannot use {uri}: Boat does not support this kind of store.", "Use a folder, or s3://BUCKET/PREFIX."
        )
    return S3Path(uri)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
