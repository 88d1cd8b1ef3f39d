"""Landing files in an S3 bucket: fetched for a while, and then read as from a folder; and put back without a client."""

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
_DELETED_AT_ONCE = 1000  # S3 takes no more


@dataclass(frozen=True)
class OldVersion:
    """What a bucket with versions keeps of a file that was replaced or deleted.

    Attributes:
        name: The file's name below the prefix.
        version: S3's name for it.
    """

    name: str
    version: str


def is_bucket(source: Path | str) -> bool:
    """Whether landing files are in a bucket, not in a folder of this machine."""
    return isinstance(source, str) and "://" in source


@contextmanager
def fetched(uri: str, is_wanted: Callable[[str, datetime], bool]) -> Iterator[Path]:
    """A folder with the wanted files of a bucket, as long as it is needed.

    Args:
        uri: `s3://BUCKET/PREFIX`.
        is_wanted: Told a file's name below the prefix and when it was last written (UTC, without a zone).

    Raises:
        SettingError: No such bucket, no right to read it, or boto3 is not installed.
        DataError: A file's name leads out of the prefix.
    """
    client, bucket, prefix = _place(uri)
    with tempfile.TemporaryDirectory(prefix="boat-bucket-") as temporary, ThreadPoolExecutor(_PARALLEL) as pool:
        folder = Path(temporary)

        def fetch(key: str) -> None:
            client.download_file(bucket, key, str(_below(folder, key.removeprefix(prefix), uri)))

        list(pool.map(fetch, _keys(client, bucket, prefix, is_wanted)))
        yield folder


@contextmanager
def at_hand(source: Path | str) -> Iterator[Path]:
    """The folder itself, or one with all files of a bucket as long as it is needed."""
    if isinstance(source, str) and is_bucket(source):
        with fetched(source, lambda _name, _at: True) as folder:
            yield folder
    else:
        yield Path(source)


def names(uri: str) -> tuple[str, ...]:
    """Names of all files below the prefix."""
    client, bucket, prefix = _place(uri)
    return tuple(key.removeprefix(prefix) for key in _keys(client, bucket, prefix, lambda _name, _at: True))


def put(uri: str, name: str, path: Path) -> None:
    """Replace a file of the bucket. A bucket with versions keeps what was there."""
    client, bucket, prefix = _place(uri)
    client.upload_file(str(path), bucket, f"{prefix}{name}")


def old_versions(uri: str) -> tuple[OldVersion, ...]:
    """All that the bucket keeps below the prefix and nobody sees any more."""
    client, bucket, prefix = _place(uri)
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    return tuple(
        OldVersion(each["Key"].removeprefix(prefix), each["VersionId"])
        for page in pages
        for each in page.get("Versions", ())
        if not each["IsLatest"]
    )


@contextmanager
def fetched_old(uri: str, old: OldVersion) -> Iterator[Path]:
    """A folder with an old version of a file, under the file's name, as long as it is needed."""
    client, bucket, prefix = _place(uri)
    with tempfile.TemporaryDirectory(prefix="boat-bucket-") as folder:
        target = _below(Path(folder), old.name, uri)
        client.download_file(bucket, f"{prefix}{old.name}", str(target), ExtraArgs={"VersionId": old.version})
        yield Path(folder)


def remove_old(uri: str, old: OldVersion) -> None:
    """Delete an old version for good."""
    client, bucket, prefix = _place(uri)
    client.delete_object(Bucket=bucket, Key=f"{prefix}{old.name}", VersionId=old.version)


def remove_all(uri: str) -> None:
    """Delete all that is below the prefix for good, with all its versions."""
    client, bucket, prefix = _place(uri)
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        every = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        found = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in every]
        for start in range(0, len(found), _DELETED_AT_ONCE):
            client.delete_objects(Bucket=bucket, Delete={"Objects": found[start : start + _DELETED_AT_ONCE]})


def _place(uri: str) -> tuple[Any, str, str]:
    """A client, the bucket and the prefix, which ends with a slash."""
    place = urlsplit(uri)
    return _client(), place.netloc, place.path.strip("/") + "/" if place.path.strip("/") else ""


def _below(folder: Path, name: str, uri: str) -> Path:
    """Where a file of the bucket comes to lie in a folder."""
    target = folder / name.lstrip("/")
    if ".." in target.parts:
        raise DataError(f"{uri}: the name {name!r} leads out of it.", "Rename the file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _keys(client: Any, bucket: str, prefix: str, is_wanted: Callable[[str, datetime], bool]) -> Iterator[str]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                modified = found["LastModified"].astimezone(UTC).replace(tzinfo=None)
                if not found["Key"].endswith("/") and is_wanted(found["Key"].removeprefix(prefix), modified):
                    yield found["Key"]
    except (BotoCoreError, ClientError) as error:
        raise SettingError(
            f"s3://{bucket}/{prefix} cannot be listed ({error}).",
            "See the platform's landing place and the run's role.",
        ) from error


def _client() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise SettingError(f"s3:// needs a package ({error}).", "Install it: pip install 'boat[flows]'.") from error
    return boto3.client("s3")
