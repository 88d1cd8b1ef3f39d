"""A client is erased from landing files and snapshots in a bucket, including their old versions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat import raw_log
from boat.__main__ import main
from boat.raw_log.erase import erase
from boat.warehouse.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    from tests.cloud.batch.running import Cloud

pytestmark = pytest.mark.cloud

FILE = "2024-01-01/20240101T100000-0a1b2c3d0a1b2c3d.ndjson"
SHOPPERS = [
    {"event_id": "1", "client_id": "anna", "session_id": "s1"},
    {"event_id": "2", "session_id": "s1"},
    {"event_id": "3", "client_id": "b", "session_id": "s3"},
]


@pytest.fixture
def prefix(cloud: "Cloud") -> str:
    """Return the URI of a prefix in a versioned bucket, like the bucket of the CloudFormation template."""
    bucket = urlsplit(cloud.store).netloc
    boto3.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return f"s3://{bucket}/erase"


def put(prefix: str, name: str, body: bytes) -> None:
    parts = urlsplit(prefix)
    boto3.client("s3").put_object(Bucket=parts.netloc, Key=f"{parts.path[1:]}/{name}", Body=body)


def all_content(prefix: str) -> bytes:
    """Return the content of all objects below a prefix, including old versions."""
    client, parts = boto3.client("s3"), urlsplit(prefix)
    versions = client.list_object_versions(Bucket=parts.netloc, Prefix=parts.path[1:]).get("Versions", [])
    objects = (
        client.get_object(Bucket=parts.netloc, Key=version["Key"], VersionId=version["VersionId"])
        for version in versions
    )
    return b"".join(response["Body"].read() for response in objects)


@pytest.fixture
def warehouse(prefix: str, tmp_path: Path) -> DuckDBWarehouse:
    """Load a warehouse from the bucket. One file was replaced, and one of two snapshots has the client."""
    events = [{"event_type": "pageview", "event_time": "2024-01-01T10:00:00Z"} | shopper for shopper in SHOPPERS]
    content = "".join(json.dumps(event) + "\n" for event in events).encode()
    put(prefix, f"landing/{FILE}", content)
    put(prefix, "landing/replaced.ndjson", content)
    put(prefix, "landing/replaced.ndjson", json.dumps(events[2] | {"event_id": "4"}).encode())
    for name, key in (("with", "shop:s1"), ("without", "shop:s3")):
        for file in ("recommend.parquet", "intent.parquet"):
            pq.write_table(pa.table({"session_key": [key]}), tmp_path / file)
            put(prefix, f"snapshots/{name}/{file}", (tmp_path / file).read_bytes())
        put(prefix, f"snapshots/{name}/manifest.json", b"{}")
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path}/w.duckdb")
    raw_log.load(warehouse, f"{prefix}/landing")
    return warehouse


def test_a_client_is_erased_from_all_versions_in_the_bucket(prefix: str, warehouse: DuckDBWarehouse) -> None:
    where: tuple[Any, ...] = (warehouse, f"{prefix}/landing", f"{prefix}/snapshots", "shop", "anna")
    dry = erase(*where)
    counts = {
        (location.kind, location.name.split()[0]): (location.before, location.after) for location in dry.locations
    }
    assert counts == {
        ("file", FILE): (2, 2),
        ("old version", "replaced.ndjson"): (2, 2),
        ("snapshot", "with"): (2, 2),
        ("table", "raw.events"): (2, 2),
    }
    assert dry.searched.snapshot_names == ("with", "without")
    assert dry.searched.files == 3
    assert b"anna" in all_content(prefix)
    proof = erase(*where, delete_snapshots=True, dry_run=False)
    assert proof.is_complete
    assert b"anna" not in all_content(prefix)
    assert all_content(f"{prefix}/snapshots/with/") == b""
    assert all_content(f"{prefix}/snapshots/without/") != b""
    assert all(file.already_loaded for file in raw_log.load(warehouse, f"{prefix}/landing").files)
    with warehouse.transaction() as transaction:
        left = transaction.query("select event_id from raw.events order by 1")["event_id"].to_pylist()
    assert left == ["3", "4"]


def test_the_command_accepts_buckets(
    prefix: str, warehouse: DuckDBWarehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--warehouse", f"duckdb:///{warehouse.path}", "--landing", f"{prefix}/landing"]
    options = [*places, "--snapshots", f"{prefix}/snapshots", "--delete-snapshots", "--yes"]
    assert main(["erase", "--client", "anna", *options]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert proof["is_complete"]
    assert proof["searched"]["landing"] == f"{prefix}/landing"
