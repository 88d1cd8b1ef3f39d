"""Landing files in an S3 bucket: fetched for a while, and then read as from a folder."""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boat.errors import DataError, SettingError

_PARALLEL = 8


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
    client, place = _client(), urlsplit(uri)
    prefix = place.path.strip("/") + "/" if place.path.strip("/") else ""
    with tempfile.TemporaryDirectory(prefix="boat-bucket-") as temporary, ThreadPoolExecutor(_PARALLEL) as pool:
        folder = Path(temporary)

        def fetch(key: str) -> None:
            target = folder / key.removeprefix(prefix).lstrip("/")
            if ".." in target.parts:
                raise DataError(f"{uri}: the name {key!r} leads out of it.", "Rename the file.")
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(place.netloc, key, str(target))

        list(pool.map(fetch, _keys(client, place.netloc, prefix, is_wanted)))
        yield folder


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
