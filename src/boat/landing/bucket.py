"""Landing files in an S3 bucket: downloaded to a temporary folder, and uploaded again without an erased client."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boat.errors import DataError, SettingError

_PARALLEL = 8
_MAX_DELETED = 1000  # limit of S3 for one request


@dataclass(frozen=True)
class OldVersion:
    """An old version of a file that was replaced or deleted, in a bucket with versions.

    Attributes:
        name: Name of the file, relative to the prefix.
        version: Version id of S3.
    """

    name: str
    version: str


def is_bucket(source: Path | str) -> bool:
    """Return whether landing files are in a bucket, and not in a local folder."""
    return isinstance(source, str) and "://" in source


@contextmanager
def fetched(uri: str, is_selected: Callable[[str, datetime], bool]) -> Iterator[Path]:
    """Download selected files of a bucket to a temporary folder.

    Args:
        uri: `s3://BUCKET/PREFIX`.
        is_selected: Called with the name of a file, relative to the prefix, and its last change (UTC, without a zone).

    Raises:
        SettingError: The bucket does not exist or cannot be read, or boto3 is not installed.
        DataError: The name of a file leads out of the prefix.
    """
    client, bucket, prefix = _parts(uri)
    with tempfile.TemporaryDirectory(prefix="boat-bucket-") as temporary, ThreadPoolExecutor(_PARALLEL) as pool:
        folder = Path(temporary)

        def fetch(key: str) -> None:
            client.download_file(bucket, key, str(_below(folder, key.removeprefix(prefix), uri)))

        list(pool.map(fetch, _keys(client, bucket, prefix, is_selected)))
        yield folder


@contextmanager
def at_hand(source: Path | str) -> Iterator[Path]:
    """Open landing files as a local folder: the folder, or a download of all files of a bucket."""
    if isinstance(source, str) and is_bucket(source):
        with fetched(source, lambda _name, _at: True) as folder:
            yield folder
    else:
        yield Path(source)


def names(uri: str) -> tuple[str, ...]:
    """Return the names of all files below the prefix."""
    client, bucket, prefix = _parts(uri)
    return tuple(key.removeprefix(prefix) for key in _keys(client, bucket, prefix, lambda _name, _at: True))


def put(uri: str, name: str, path: Path) -> None:
    """Replace a file of the bucket. A bucket with versions stores the old version."""
    client, bucket, prefix = _parts(uri)
    client.upload_file(str(path), bucket, f"{prefix}{name}")


def old_versions(uri: str) -> tuple[OldVersion, ...]:
    """Return all old versions below the prefix."""
    client, bucket, prefix = _parts(uri)
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return tuple(
        OldVersion(version["Key"].removeprefix(prefix), version["VersionId"])
        for page in pages
        for version in page.get("Versions", ())
        if not version["IsLatest"]
    )


@contextmanager
def fetched_old(uri: str, old: OldVersion) -> Iterator[Path]:
    """Download an old version of a file to a temporary folder, under the name of the file."""
    client, bucket, prefix = _parts(uri)
    with tempfile.TemporaryDirectory(prefix="boat-bucket-") as folder:
        target = _below(Path(folder), old.name, uri)
        client.download_file(bucket, f"{prefix}{old.name}", str(target), ExtraArgs={"VersionId": old.version})
        yield Path(folder)


def remove_old(uri: str, old: OldVersion) -> None:
    """Delete an old version permanently."""
    client, bucket, prefix = _parts(uri)
    client.delete_object(Bucket=bucket, Key=f"{prefix}{old.name}", VersionId=old.version)


def remove_all(uri: str) -> None:
    """Delete all files below the prefix permanently, with all versions."""
    client, bucket, prefix = _parts(uri)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        versions = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
        for start in range(0, len(versions), _MAX_DELETED):
            client.delete_objects(Bucket=bucket, Delete={"Objects": versions[start : start + _MAX_DELETED]})


def _parts(uri: str) -> tuple[Any, str, str]:
    """Return a client, the bucket, and the prefix with a final slash."""
    parts = urlsplit(uri)
    return _client(), parts.netloc, parts.path.strip("/") + "/" if parts.path.strip("/") else ""


def _below(folder: Path, name: str, uri: str) -> Path:
    """Return the path of a file of the bucket in a folder."""
    target = folder / name.lstrip("/")
    if ".." in target.parts:
        raise DataError(f"{uri}: the name {name!r} leads out of the prefix.", "Rename the file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _keys(client: Any, bucket: str, prefix: str, is_selected: Callable[[str, datetime], bool]) -> Iterator[str]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                modified = entry["LastModified"].astimezone(UTC).replace(tzinfo=None)
                if not entry["Key"].endswith("/") and is_selected(entry["Key"].removeprefix(prefix), modified):
                    yield entry["Key"]
    except (BotoCoreError, ClientError) as error:
        raise SettingError(
            f"s3://{bucket}/{prefix} cannot be listed ({error}).",
            "Check `landing` of the platform block and the role of the run.",
        ) from error


def _client() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise SettingError(f"s3:// needs a package ({error}).", "Install it: pip install 'boat[flows]'.") from error
    return boto3.client("s3")
