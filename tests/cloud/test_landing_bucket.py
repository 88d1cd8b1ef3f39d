"""Landing files load from a bucket as from a folder, and only new files are downloaded."""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from boat.errors import SettingError
from boat.raw_log import load
from boat.raw_log.replay import replay
from boat.warehouse.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    from tests.cloud.batch.running import Cloud

pytestmark = pytest.mark.cloud


@pytest.fixture
def landing(cloud: "Cloud") -> str:
    return cloud.store.replace("/store", "/landing")


def put(landing: str, name: str, *ids: str) -> None:
    bucket, _, prefix = landing.removeprefix("s3://").partition("/")
    lines = [
        {"event_id": event_id, "session_id": "s", "event_time": "2024-01-01T10:00:00Z", "event_type": "pageview"}
        for event_id in ids
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body.encode())


def test_new_files_of_a_bucket_are_loaded_once(landing: str, tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path}/w.duckdb")
    put(landing, "2024-01-01/20240101T100000-0a1b2c3d0a1b2c3d.ndjson", "1", "2")
    put(landing, ".dead-letter/2024-01-01/20240101T100000-0a1b2c3d0a1b2c3d.ndjson", "x")
    first = load(warehouse, landing)
    assert [(file.kind, file.accepted, file.failed) for file in first.files] == [
        ("dead_letters", 0, 1),
        ("events", 2, 0),
    ]
    with warehouse.transaction() as transaction:  # S3 reports times of files in whole seconds
        transaction.execute("update raw.loads set loaded_at = loaded_at + interval 2 second")
    assert load(warehouse, landing).files == ()
    put(landing, "2024-01-01/20240101T110000-0a1b2c3d0a1b2c3d.ndjson", "2", "3")
    (second,) = load(warehouse, landing).files
    assert (second.received, second.accepted, second.duplicate) == (2, 1, 1)
    assert [day.differs for day in replay(warehouse, landing, date(2024, 1, 1), date(2024, 1, 1)).days] == [False]


def test_a_rewritten_file_is_loaded(landing: str, tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path}/w.duckdb")
    put(landing, "a.ndjson", "1")
    load(warehouse, landing)
    put(landing, "a.ndjson", "1", "2")
    assert load(warehouse, landing).accepted == 1


def test_a_missing_bucket_is_named(landing: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"s3://no-such-bucket/events/ cannot be listed"):
        load(DuckDBWarehouse(f"duckdb:///{tmp_path}/w.duckdb"), "s3://no-such-bucket/events")
