"""A client is erased from landing files and snapshots in a bucket, and from what the bucket keeps of them."""

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
def place(cloud: "Cloud") -> str:
    """A prefix of a bucket that keeps versions, as the one of the CloudFormation template does."""
    bucket = urlsplit(cloud.store).netloc
    boto3.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return f"s3://{bucket}/erase"


def put(place: str, name: str, body: bytes) -> None:
    parts = urlsplit(place)
    boto3.client("s3").put_object(Bucket=parts.netloc, Key=f"{parts.path[1:]}/{name}", Body=body)


def everything(place: str) -> bytes:
    """All that the bucket keeps below a prefix, old versions too."""
    client, parts = boto3.client("s3"), urlsplit(place)
    kept = client.list_object_versions(Bucket=parts.netloc, Prefix=parts.path[1:]).get("Versions", [])
    objects = (client.get_object(Bucket=parts.netloc, Key=each["Key"], VersionId=each["VersionId"]) for each in kept)
    return b"".join(found["Body"].read() for found in objects)


@pytest.fixture
def warehouse(place: str, tmp_path: Path) -> DuckDBWarehouse:
    """Loaded from the bucket, where one file was once replaced; with a snapshot that has the client and one without."""
    events = [{"event_type": "pageview", "event_time": "2024-01-01T10:00:00Z"} | shopper for shopper in SHOPPERS]
    content = "".join(json.dumps(event) + "\n" for event in events).encode()
    put(place, f"landing/{FILE}", content)
    put(place, "landing/replaced.ndjson", content)
    put(place, "landing/replaced.ndjson", json.dumps(events[2] | {"event_id": "4"}).encode())
    for name, key in (("with", "shop:s1"), ("without", "shop:s3")):
        for file in ("recommend.parquet", "intent.parquet"):
            pq.write_table(pa.table({"session_key": [key]}), tmp_path / file)
            put(place, f"snapshots/{name}/{file}", (tmp_path / file).read_bytes())
        put(place, f"snapshots/{name}/manifest.json", b"{}")
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path}/w.duckdb")
    raw_log.load(warehouse, f"{place}/landing")
    return warehouse


def test_nothing_of_a_client_stays_in_the_bucket(place: str, warehouse: DuckDBWarehouse) -> None:
    where: tuple[Any, ...] = (warehouse, f"{place}/landing", f"{place}/snapshots", "shop", "anna")
    dry = erase(*where)
    found = {(each.kind, each.name.split()[0]): (each.before, each.after) for each in dry.places}
    assert found == {
        ("file", FILE): (2, 2),
        ("old version", "replaced.ndjson"): (2, 2),
        ("snapshot", "with"): (2, 2),
        ("table", "raw.events"): (2, 2),
    }
    assert dry.searched.snapshot_names == ("with", "without")
    assert dry.searched.files == 3
    assert b"anna" in everything(place)
    proof = erase(*where, delete_snapshots=True, dry_run=False)
    assert proof.is_complete
    assert b"anna" not in everything(place)
    assert everything(f"{place}/snapshots/with/") == b""
    assert everything(f"{place}/snapshots/without/") != b""
    assert all(file.already_loaded for file in raw_log.load(warehouse, f"{place}/landing").files)
    with warehouse.transaction() as transaction:
        left = transaction.query("select event_id from raw.events order by 1")["event_id"].to_pylist()
    assert left == ["3", "4"]


def test_the_command_takes_buckets(place: str, warehouse: DuckDBWarehouse, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--warehouse", f"duckdb:///{warehouse.path}", "--landing", f"{place}/landing"]
    options = [*places, "--snapshots", f"{place}/snapshots", "--delete-snapshots", "--yes"]
    assert main(["erase", "--client", "anna", *options]) == 0
    proof = json.loads(capsys.readouterr().out)
    assert proof["is_complete"]
    assert proof["searched"]["landing"] == f"{place}/landing"
