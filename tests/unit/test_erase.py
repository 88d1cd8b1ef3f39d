"""One client is erased everywhere, nobody else is, and nothing of them comes back."""

import gzip
import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat.__main__ import main
from boat.erase import Proof, erase
from boat.landing import BadRows, load
from boat.replay import replay
from boat.warehouse.duckdb import DuckDBWarehouse

ANNA = 'anna "ö" 7'
APART = BadRows("keep_apart")


def event(number: int, **others: Any) -> dict[str, Any]:
    base = {
        "event_id": str(number),
        "client_id": f"client {number}",
        "session_id": f"s{number}",
        "event_time": f"2024-01-01T10:00:{number:02}Z",
        "event_type": "pageview",
    }
    return {name: value for name, value in (base | others).items() if value is not None}


def lines(events: list[Any]) -> str:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """One snapshot with a session of Anna's, one without."""
    folder = tmp_path / "snapshots"
    for name, keys in (("with", ["shop:s1", "shop:s5"]), ("without", ["shop:s5"])):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")
        for file in ("next_item.parquet", "intent.parquet"):
            pq.write_table(pa.table({"session_key": keys}), folder / name / file)
    return folder


@pytest.fixture
def landing(tmp_path: Path, warehouse: DuckDBWarehouse) -> Path:
    """Loaded files of all formats. Anna is in session s1, where she also came before she logged in."""
    folder = tmp_path / "landing"
    folder.mkdir()
    anna = event(1, client_id=ANNA)
    before = event(2, client_id=None, session_id="s1")
    bad = event(3, client_id=ANNA, event_time="never")
    collected = folder / "events" / "2024-01-01" / "20240101T100000-0a1b2c3d.ndjson"
    collected.parent.mkdir(parents=True)
    collected.write_text(lines([event(4), anna, anna, event(5), bad, '{"half": "' + ANNA[:4], before]))
    (folder / "copy.ndjson").write_text(lines([event(6), anna, event(1, client_id=ANNA, url="else"), event(7)]))
    quoted = ANNA.replace('"', '""')
    csv = 'event_id,client_id,event_time,event_type,query\n8,c8,2024-01-01,search,"two\nlines"\n'
    csv += f'9,"{quoted}",2024-01-01,search,\n10,c10,2024-01-01,search,q\n'
    (folder / "old.csv.gz").write_bytes(gzip.compress(csv.encode()))
    table = [event(11), event(12, client_id=ANNA, session_id=None), event(13), event(14, client_id=ANNA), event(15)]
    pq.write_table(pa.Table.from_pylist(table), folder / "old.parquet")
    (folder / "other shop.ndjson").write_text(lines([event(16, client_id=ANNA, shop="other", session_id="s1")]))
    (folder / "products.csv").write_text("product_id,price\np,1\n")
    letters = folder / "events" / ".dead-letter" / "2024-01-01" / "20240101T100000-0a1b2c3d-failed.ndjson"
    letters.parent.mkdir(parents=True)
    payloads = [json.dumps({"client_id": ANNA}), json.dumps({"client_id": "b"}), f"cid={ANNA}&x", f"cid={ANNA}7"]
    letter = {"received_at": "2024-01-01T10:00:00Z", "reason": "too_deep", "field": "", "message": "No."}
    letters.write_text(lines([letter | {"payload": payload} for payload in payloads]))
    load(warehouse, folder, APART)
    with warehouse.session() as session:
        session.execute("create schema marts")
        session.execute("""create table marts.events as
            select *, shop || ':' || coalesce(session_id, client_id || ':1') as session_key from raw.events""")
        session.execute("create table marts.clients as select distinct shop, client_id from raw.events")
        session.execute("create table marts.days as select count(*) as events from raw.events")
    return folder


OTHERS = ["10", "11", "13", "15", "16", "4", "5", "6", "7", "8"]


def ids(warehouse: DuckDBWarehouse) -> list[str]:
    with warehouse.session() as session:
        return session.query("select event_id from raw.events order by 1")["event_id"].to_pylist()


def lines_of(warehouse: DuckDBWarehouse) -> dict[str, int]:
    with warehouse.session() as session:
        found = session.query("select event_id, source_line from raw.events").to_pylist()
    return {row["event_id"]: row["source_line"] for row in found}


def ledger(warehouse: DuckDBWarehouse) -> list[dict[str, Any]]:
    """What the ledger says beside what the tables hold."""
    with warehouse.session() as session:
        return session.query(
            """select source_file, kind, received, accepted, duplicate, failed,
                (select count(*) from raw.events as event where event.load_id = load.load_id) as events,
                (select count(*) from raw.dead_letters as letter where letter.load_id = load.load_id) as letters
            from raw.loads as load order by source_file, kind"""
        ).to_pylist()


def content(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def places(proof: Proof) -> dict[str, tuple[int, int]]:
    return {place.name: (place.before, place.after) for place in proof.places}


def test_a_dry_run_counts_and_changes_nothing(warehouse: DuckDBWarehouse, landing: Path, snapshots: Path) -> None:
    before, events = content(landing), ids(warehouse)
    proof = erase(warehouse, landing, snapshots, "shop", ANNA)
    assert (content(landing), ids(warehouse)) == (before, events)
    assert {name: count for name, (count, _) in places(proof).items()} == {
        "copy.ndjson": 2,
        "events/.dead-letter/2024-01-01/20240101T100000-0a1b2c3d-failed.ndjson": 2,
        "events/2024-01-01/20240101T100000-0a1b2c3d.ndjson": 4,
        "old.csv.gz": 1,
        "old.parquet": 2,
        "marts.clients": 1,
        "marts.events": 5,
        "raw.dead_letters": 4,
        "raw.events": 5,
        "with": 2,
    }
    assert not proof.is_complete


def test_a_client_is_gone_everywhere_and_nobody_else_is(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    lines_before = lines_of(warehouse)
    proof = erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False, delete_snapshots=True)
    assert proof.is_complete
    assert all(after == 0 < before for before, after in places(proof).values())
    assert ids(warehouse) == OTHERS
    moved = {"13": 2, "15": 3}  # rows of Parquet move up
    assert lines_of(warehouse) == {one: moved.get(one, lines_before[one]) for one in OTHERS}
    assert sorted(path.name for path in snapshots.iterdir()) == ["without"]
    for path in landing.rglob("*"):
        if path.is_file() and "other shop" not in path.name and "failed" not in path.name:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            assert ANNA.encode() not in raw
            assert json.dumps(ANNA)[1:-1].encode() not in raw
    assert not list(landing.rglob(".erasing*"))
    assert ANNA not in proof.to_json()


def test_the_ledger_still_adds_up_and_nothing_is_loaded_again(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False)
    for row in ledger(warehouse):
        if row["kind"] != "erased":
            assert row["received"] == row["accepted"] + row["duplicate"] + row["failed"], row
            assert (row["accepted"], row["failed"]) == (row["events"] or row["accepted"], row["letters"]), row
            assert row["duplicate"] >= 0
    assert all(file.already_loaded for file in load(warehouse, landing, APART).files)
    found = replay(warehouse, landing, date(2024, 1, 1), date(2024, 1, 1))
    assert (found.differing, found.rebuilt.lost) == ((), ())


def test_old_copies_of_the_files_do_not_bring_the_client_back(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path, tmp_path: Path
) -> None:
    """As when the machine stopped before the files took their places, or a backup is put back."""
    shutil.copytree(landing, tmp_path / "backup")
    erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False, delete_snapshots=True)
    erased = content(landing)
    shutil.rmtree(landing)
    shutil.copytree(tmp_path / "backup", landing)
    assert all(file.already_loaded for file in load(warehouse, landing, APART).files)
    assert ids(warehouse) == OTHERS
    assert erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False).is_complete
    assert content(landing) == erased
    assert all(file.already_loaded for file in load(warehouse, landing, APART).files)


def test_a_client_is_erased_from_the_log_where_the_file_is_gone(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    (landing / "old.parquet").unlink()
    erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False)
    assert ids(warehouse) == OTHERS
    (row,) = [row for row in ledger(warehouse) if row["source_file"] == "old.parquet"]
    assert (row["received"], row["accepted"], row["duplicate"], row["failed"]) == (3, 3, 0, 0)


def test_a_proof_says_where_was_looked_and_cannot_be_changed_unseen(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    proof = json.loads(erase(warehouse, landing, snapshots, "shop", "nobody").to_json())
    assert (proof["places"], proof["found"], proof["is_complete"]) == ([], False, True)
    searched = proof["searched"]
    assert (searched["landing"], searched["files"], searched["other_files"]) == (str(landing), 6, 1)
    assert searched["tables"] == ["raw.dead_letters", "raw.events", "marts.clients", "marts.events", "raw.products"]
    assert searched["snapshot_names"] == ["with", "without"]
    digest = proof.pop("digest")
    canonical = json.dumps(proof, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest


def test_a_file_that_the_collector_still_writes_is_named(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    growing = landing / "events" / ".open" / "20240101T110000-0a1b2c3d.ndjson"
    growing.parent.mkdir()
    growing.write_text(lines([event(1, client_id=ANNA)]))
    proof = erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False, delete_snapshots=True)
    assert proof.growing == ("events/.open/20240101T110000-0a1b2c3d.ndjson",)
    assert not proof.is_complete


def test_the_command_prints_a_proof(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--warehouse", f"duckdb:///{warehouse.path}", "--landing", str(landing), "--snapshots", str(snapshots)]
    assert main(["erase", "--client", ANNA, *place]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"]
    assert main(["erase", "--client", ANNA, *place, "--yes"]) == 1
    printed = capsys.readouterr()
    assert "Something of the client is left" in printed.err
    left = [one for one in json.loads(printed.out)["places"] if one["after"]]
    assert left == [{"kind": "snapshot", "name": "with", "before": 2, "after": 2}]
