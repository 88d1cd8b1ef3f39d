"""A client is erased everywhere, other clients are kept, and erased rows do not come back."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat.__main__ import main
from boat.errors import DataError
from boat.landing import BadRows
from boat.raw_log import load
from boat.raw_log.erase import erase
from boat.raw_log.proof import Note, Proof
from boat.raw_log.replay import replay
from boat.raw_log.traces import Client, Match
from boat.warehouse.duckdb import DuckDBWarehouse

ANNA = 'anna "ö" 7'
QUARANTINE = BadRows("quarantine")


def event(number: int, **fields: Any) -> dict[str, Any]:
    base = {
        "event_id": str(number),
        "client_id": f"client {number}",
        "session_id": f"s{number}",
        "event_time": f"2024-01-01T10:00:{number:02}Z",
        "event_type": "pageview",
    }
    return {name: value for name, value in (base | fields).items() if value is not None}


def lines(events: list[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in events)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """Create two snapshots: one has a session of Anna, the other has not."""
    folder = tmp_path / "snapshots"
    for name, keys in (("with", ["shop:s1", "shop:s5"]), ("without", ["shop:s5"])):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text("{}")
        for file in ("recommend.parquet", "intent.parquet"):
            pq.write_table(pa.table({"session_key": keys}), folder / name / file)
    return folder


@pytest.fixture
def landing(tmp_path: Path, warehouse: DuckDBWarehouse) -> Path:
    """Write and load files of all formats. Session s1 is Anna's; it has an event from before her login."""
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
    load(warehouse, folder, QUARANTINE)
    with warehouse.transaction() as transaction:
        transaction.execute("create schema marts")
        transaction.execute("""create table marts.events as
            select *, shop || ':' || coalesce(session_id, client_id || ':1') as session_key from raw.events""")
        transaction.execute("create table marts.clients as select distinct shop, client_id from raw.events")
        transaction.execute("create table marts.days as select count(*) as events from raw.events")
    return folder


OTHER_CLIENTS_IDS = ["10", "11", "13", "15", "16", "4", "5", "6", "7", "8"]


def ids(warehouse: DuckDBWarehouse) -> list[str]:
    with warehouse.transaction() as transaction:
        return transaction.query("select event_id from raw.events order by 1")["event_id"].to_pylist()


def lines_of(warehouse: DuckDBWarehouse) -> dict[str, int]:
    with warehouse.transaction() as transaction:
        rows = transaction.query("select event_id, source_line from raw.events").to_pylist()
    return {row["event_id"]: row["source_line"] for row in rows}


def ledger(warehouse: DuckDBWarehouse) -> list[dict[str, Any]]:
    """Return each ledger entry with the number of its rows in the tables."""
    with warehouse.transaction() as transaction:
        return transaction.query(
            """select source_file, kind, received, accepted, duplicate, failed,
                (select count(*) from raw.events as event where event.load_id = load.load_id) as events,
                (select count(*) from raw.dead_letters as letter where letter.load_id = load.load_id) as letters
            from raw.loads as load order by source_file, kind"""
        ).to_pylist()


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def counts(proof: Proof) -> dict[str, tuple[int, int]]:
    return {location.name: (location.before, location.after) for location in proof.locations}


def test_a_dry_run_counts_and_changes_nothing(warehouse: DuckDBWarehouse, landing: Path, snapshots: Path) -> None:
    before, events = digests(landing), ids(warehouse)
    proof = erase(warehouse, landing, snapshots, "shop", ANNA)
    assert (digests(landing), ids(warehouse)) == (before, events)
    assert {name: count for name, (count, _) in counts(proof).items()} == {
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


def test_a_client_is_erased_everywhere_and_other_clients_stay(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    lines_before = lines_of(warehouse)
    for _ in range(2):
        warehouse.publish_copy()
    proof = erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False, delete_snapshots=True)
    (copy,) = warehouse.copies.iterdir()
    assert ids(DuckDBWarehouse(f"duckdb:///{copy}")) == OTHER_CLIENTS_IDS
    assert copy.name == "000003.duckdb"
    assert proof.is_complete
    assert all(after == 0 < before for before, after in counts(proof).values())
    assert ids(warehouse) == OTHER_CLIENTS_IDS
    moved = {"13": 2, "15": 3}  # Parquet rows after an erased row get a smaller number
    assert lines_of(warehouse) == {id: moved.get(id, lines_before[id]) for id in OTHER_CLIENTS_IDS}
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
    assert all(file.already_loaded for file in load(warehouse, landing, QUARANTINE).files)
    report = replay(warehouse, landing, date(2024, 1, 1), date(2024, 1, 1))
    assert (report.differing, report.rebuilt.lost) == ((), ())


def test_restored_files_do_not_bring_an_erased_client_back(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path, tmp_path: Path
) -> None:
    # A backup is restored, or the machine stopped before the rewritten files replaced the old ones.
    shutil.copytree(landing, tmp_path / "backup")
    erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False, delete_snapshots=True)
    erased_digests = digests(landing)
    shutil.rmtree(landing)
    shutil.copytree(tmp_path / "backup", landing)
    assert all(file.already_loaded for file in load(warehouse, landing, QUARANTINE).files)
    assert ids(warehouse) == OTHER_CLIENTS_IDS
    assert erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False).is_complete
    assert digests(landing) == erased_digests
    assert all(file.already_loaded for file in load(warehouse, landing, QUARANTINE).files)


def test_a_client_is_erased_from_the_log_if_its_file_is_missing(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    (landing / "old.parquet").unlink()
    erase(warehouse, landing, snapshots, "shop", ANNA, dry_run=False)
    assert ids(warehouse) == OTHER_CLIENTS_IDS
    (row,) = [row for row in ledger(warehouse) if row["source_file"] == "old.parquet"]
    assert (row["received"], row["accepted"], row["duplicate"], row["failed"]) == (3, 3, 0, 0)


def test_a_proof_lists_every_searched_location_and_has_a_digest(
    warehouse: DuckDBWarehouse, landing: Path, snapshots: Path
) -> None:
    proof = json.loads(erase(warehouse, landing, snapshots, "shop", "nobody").to_json())
    assert (proof["locations"], proof["found"], proof["is_complete"]) == ([], False, True)
    searched = proof["searched"]
    assert (searched["landing"], searched["files"], searched["other_files"]) == (str(landing), 6, 1)
    assert searched["tables"] == ["raw.dead_letters", "raw.events", "marts.clients", "marts.events", "raw.products"]
    assert searched["snapshot_names"] == ["with", "without"]
    digest = proof.pop("digest")
    canonical = json.dumps(proof, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest


def test_a_file_that_the_collector_is_still_writing_is_named(
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
    options = ["--warehouse", f"duckdb:///{warehouse.path}", "--landing", str(landing), "--snapshots", str(snapshots)]
    assert main(["erase", "--client", ANNA, *options]) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"]
    assert main(["erase", "--client", ANNA, *options, "--yes"]) == 1
    printed = capsys.readouterr()
    assert "Rows of the client are left" in printed.err
    left = [location for location in json.loads(printed.out)["locations"] if location["after"]]
    assert left == [{"kind": "snapshot", "name": "with", "before": 2, "after": 2}]


CLIENT_ID = "530496790"


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def erase_client(warehouse: DuckDBWarehouse, folder: Path, client: str, **options: Any) -> Proof:
    return erase(warehouse, folder, folder.parent / "snapshots", "shop", client, dry_run=False, **options)


def write_and_load(warehouse: DuckDBWarehouse, tmp_path: Path, files: Mapping[str, str]) -> Path:
    folder = write_files(tmp_path / "landing", files)
    load(warehouse, folder, QUARANTINE)
    return folder


def rows_by_name(notes: tuple[Note, ...]) -> dict[str, int]:
    return {note.name: note.rows for note in notes}


def text_of_files(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())


EXPORT = "event_time,event_type,client_id,product_id\n2024-05-01 10:00:00,view,530496790,p1\n"


def test_an_id_is_erased_in_fields_and_parameters_and_named_in_other_files(
    warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    header = "event_time,event_type,client_id,user_id,session_id,product_id,url\n"
    client_events = [
        event(1, client_id="cookie", userId=CLIENT_ID),
        event(2, client_id=530496790),
        event(3, client_id="cookie", user={"id": CLIENT_ID}),
        event(4, client_id="cookie", context={"traits": [{"Customer-ID": 530496790.0}]}),
        event(5, client_id="cookie", url=f"https://shop.example/a?x=1&uid={CLIENT_ID}"),
        event(6, client_id="cookie", event_params=[{"key": "user_id", "value": {"string_value": CLIENT_ID}}]),
        event(7, client_id="cookie", next=f"/login?back=%2Fa%3Fcid%3D{CLIENT_ID}"),
        event(8, client_id="cookie", data=json.dumps({"visitor_id": CLIENT_ID})),
        event(9, client_id="cookie", user_id=CLIENT_ID, event_type="scroll"),  # an event type that Boat does not use
    ]
    folder = write_and_load(
        warehouse,
        tmp_path,
        {
            "extra.csv": header
            + f"2024-05-01 10:00:00,view,cookie-1,{CLIENT_ID},s1,p1,/a?uid={CLIENT_ID}\n"
            + "2024-05-01 10:01:00,view,cookie-2,530496791,s2,p1,/b\n",
            "segment.ndjson": lines([*client_events, event(20, client_id="cookie")]),
            "EXPORT.CSV": EXPORT.replace(",", ";"),
            "array.json": json.dumps([event(31, client_id="c"), event(32, client_id=CLIENT_ID)]),
        },
    )
    write_files(
        folder, {"old.csv.bak": EXPORT, ".hidden": CLIENT_ID, "a.tmp": f"uid={CLIENT_ID}", "readme.txt": "nothing"}
    )
    (folder / "a.zip").write_bytes(b"PK\0\1")
    dry_run = erase(warehouse, folder, tmp_path / "snapshots", "shop", CLIENT_ID)
    rows = {"EXPORT.CSV": 1, "array.json": 1, "extra.csv": 1, "segment.ndjson": 9, "raw.events": 11}
    assert {name: count for name, (count, _) in counts(dry_run).items()} == rows
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert counts(proof) == {name: (count, 0) for name, count in rows.items()}
    assert rows_by_name(proof.not_erased) == {"old.csv.bak": 1, ".hidden": 1, "a.tmp": 1}
    assert rows_by_name(proof.not_searched) == {"a.zip": 0}
    assert (proof.found, proof.is_complete, proof.linked_clients) == (True, False, 2)
    assert CLIENT_ID not in proof.to_json()
    assert all(
        row["received"] == row["accepted"] == row["events"] for row in ledger(warehouse) if row["kind"] == "events"
    )
    for name in ("old.csv.bak", ".hidden", "a.tmp", "a.zip"):
        (folder / name).unlink()
    assert CLIENT_ID not in text_of_files(folder)
    assert ids(warehouse)[:2] == ["20", "31"]
    second = erase_client(warehouse, folder, CLIENT_ID)
    assert (second.found, second.is_complete) == (False, True)
    assert all(file.already_loaded for file in load(warehouse, folder, QUARANTINE).files)


@pytest.mark.parametrize("notation", [CLIENT_ID, f" {CLIENT_ID} ", f"{CLIENT_ID}.0"])
def test_all_notations_of_an_id_are_one_client(warehouse: DuckDBWarehouse, tmp_path: Path, notation: str) -> None:
    # Earlier versions loaded ids of float columns with `.0`.
    rows = [event(1, client_id=CLIENT_ID), event(2, client_id="y"), event(3, client_id=None, session_id="s1")]
    folder = write_and_load(warehouse, tmp_path, {"a.ndjson": lines(rows)})
    with warehouse.transaction() as transaction:
        transaction.execute(f"update raw.events set client_id = '{CLIENT_ID}.0' where event_id = '1'")
        transaction.execute("create schema marts")
        transaction.execute("create table marts.keys (session_key varchar)")
        transaction.execute(
            f"insert into marts.keys values ('shop:s1'), ('shop:{CLIENT_ID}.0:17'), ('shop:{CLIENT_ID}:17'), "
            "('shop:s2')"
        )
    proof = erase_client(warehouse, folder, notation)
    assert counts(proof)["raw.events"] == (2, 0)
    assert counts(proof)["marts.keys"] == (3, 0)
    assert proof.client == erase(warehouse, folder, tmp_path / "s", "shop", CLIENT_ID).client
    assert ids(warehouse) == ["2"]


def test_a_short_id_erases_only_fields_that_identify_the_client(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    rows = [
        event(1, client_id="7", session_id="7"),
        event(2, client_id="b", product_id="7", event_type="detail", quantity=7),
        event(3, client_id="c", query="7", event_type="search"),
        event(4, client_id="d", url="/p/7?page=7"),
        event(5, client_id="e", note="row 7 of 17, 7.5 percent"),
        event(6, client_id="f", url="/p/77", rate=7.5),
        event(7, client_id="g", session_id="7x"),
        event(8, client_id="h", event_time="never", quantity=7),
        event(9, client_id=7, event_time="never"),
    ]
    folder = write_and_load(
        warehouse, tmp_path, {"a.ndjson": lines(rows), "products.csv": "product_id,product_name\n7,Seven\n8,Eight\n"}
    )
    proof = erase_client(warehouse, folder, "7")
    assert counts(proof) == {"a.ndjson": (2, 0), "raw.dead_letters": (1, 0), "raw.events": (1, 0)}
    assert ids(warehouse) == ["2", "3", "4", "5", "6", "7"]
    assert rows_by_name(proof.mentions) == {
        "a.ndjson": 6,
        "products.csv": 1,
        "raw.dead_letters": 1,
        "raw.events.event_id": 1,
        "raw.events.extra": 1,
        "raw.events.product_id": 1,
        "raw.events.query": 1,
        "raw.events.url": 1,
        "raw.products.product_id": 1,
    }
    assert proof.is_complete


def test_a_session_of_several_clients_keeps_events_that_may_be_of_other_clients(
    warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    rows = [
        event(1, client_id="a:1", session_id="s"),
        event(2, client_id="b", session_id="s"),
        event(3, client_id=None, session_id="s"),
        event(4, client_id="a:1", session_id="own"),
        event(5, client_id=None, session_id="own"),
        event(6, client_id="b", session_id="a:1"),
    ]
    folder = write_and_load(warehouse, tmp_path, {"a.ndjson": lines(rows[:1]), "b.ndjson": lines(rows[1:])})
    kept_keys = ["shop:s", "shop:s:client:b", "shop:a%3A1:client:b"]
    with warehouse.transaction() as transaction:
        transaction.execute("create schema marts")
        transaction.execute("create table marts.keys (session_key varchar)")
        for key in (*kept_keys, "shop:s:client:a%3A1", "shop:own", "shop:a%3A1:1714557600", "shop:a:1:1714557600"):
            transaction.execute("insert into marts.keys values (?)", [key])
    proof = erase_client(warehouse, folder, "a:1")
    assert ids(warehouse) == ["2", "3", "6"]
    with warehouse.transaction() as transaction:
        assert transaction.query("select session_key from marts.keys").column(0).to_pylist() == kept_keys
    unclear = [(note.name, note.rows) for note in proof.mentions if "without a client" in note.text]
    assert unclear == [("b.ndjson", 1), ("raw.events", 1)]
    assert proof.is_complete


def test_tables_lose_rows_with_the_id_in_a_page_address(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    folder = write_and_load(
        warehouse, tmp_path, {"a.ndjson": lines([event(1, client_id="c", url=f"/a?user={CLIENT_ID}")])}
    )
    with warehouse.transaction() as transaction:
        transaction.execute("create schema marts")
        transaction.execute("create table marts.pages (shop varchar, url varchar, views bigint)")
        transaction.execute(
            f"insert into marts.pages values ('shop', '/a?user={CLIENT_ID}', 1), ('shop', '/{CLIENT_ID}', 2), "
            "('o', '', 1)"
        )
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert counts(proof) == {"a.ndjson": (1, 0), "marts.pages": (1, 0), "raw.events": (1, 0)}
    assert rows_by_name(proof.mentions) == {"marts.pages.url": 1}


def test_a_file_that_cannot_be_read_is_searched_as_text(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    folder = write_files(
        tmp_path / "landing",
        {
            "no times.csv": f"client_id,name\n{CLIENT_ID},Anna\n",
            "open quote.csv": f'event_time,event_type,client_id\n2024-05-01,pageview,"{CLIENT_ID}\n',
            "other.csv": "client_id,name\nb,Berta\n",
            "orders.csv.gz": "no gzip",
        },
    )
    (folder / "half.parquet").write_bytes(b"PAR1\0")
    (folder / "old.txt").write_bytes(gzip.compress(f"uid={CLIENT_ID}".encode()))
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert rows_by_name(proof.not_erased) == {"no times.csv": 1, "open quote.csv": 1, "old.txt": 1}
    assert rows_by_name(proof.not_searched) == {"half.parquet": 0}
    assert (proof.found, proof.is_complete) == (True, False)


@pytest.mark.parametrize("word", ["", " null ", "undefined"])
def test_a_missing_id_is_refused(warehouse: DuckDBWarehouse, tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="is a word for a missing value"):
        erase_client(warehouse, write_files(tmp_path / "landing", {"a.ndjson": ""}), word)


def test_a_search_without_a_match_warns_and_fails(
    warehouse: DuckDBWarehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_and_load(warehouse, tmp_path, {"a.ndjson": lines([event(1)])})
    options = ["--warehouse", f"duckdb:///{warehouse.path}", "--landing", str(folder), "--snapshots", str(tmp_path)]
    assert main(["erase", "--client", "nobody", *options]) == 0
    printed = capsys.readouterr()
    assert f"No row of this client was found in {folder}" in printed.err
    assert json.loads(printed.out)["found"] is False
    assert main(["erase", "--client", "nobody", *options, "--yes"]) == 1
    assert "Check the id and the shop" in capsys.readouterr().err


def test_nested_columns_of_parquet_are_searched(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    folder = tmp_path / "landing"
    folder.mkdir()
    rows = [event(1, user={"id": 530496790.0, "tags": ["a"]}), event(2, user={"id": 8.0, "tags": []})]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    load(warehouse, folder)
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert counts(proof) == {"a.parquet": (1, 0), "raw.events": (1, 0)}
    assert pq.read_table(folder / "a.parquet")["event_id"].to_pylist() == ["2"]


def test_crafted_urls_are_searched_quickly(warehouse: DuckDBWarehouse) -> None:
    client = Client("shop", CLIENT_ID)
    assert client.match("+ a=".join(["x"] * 2000) + f" {CLIENT_ID}") is Match.MENTION
    assert client.match("[" * 100_000 + CLIENT_ID) is Match.MENTION


def test_a_broken_line_that_is_too_long_is_named(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    long = '{"note": "' + "x" * 40_000 + f'", "client_id": "{CLIENT_ID}"'
    folder = write_and_load(warehouse, tmp_path, {"a.ndjson": lines([event(1), long, event(2, client_id=CLIENT_ID)])})
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert counts(proof) == {"a.ndjson": (1, 0), "raw.events": (1, 0)}
    assert rows_by_name(proof.not_searched) == {"a.ndjson": 1}
    assert not proof.is_complete


def test_the_id_in_the_name_of_a_file_is_not_in_the_proof(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    folder = write_and_load(
        warehouse, tmp_path, {f"{CLIENT_ID}/{CLIENT_ID}.ndjson": lines([event(1, client_id=CLIENT_ID)])}
    )
    proof = erase_client(warehouse, folder, CLIENT_ID)
    assert counts(proof) == {"[client]/[client].ndjson": (1, 0), "raw.events": (1, 0)}
    assert CLIENT_ID not in proof.to_json()
