"""Landing files load into Snowflake by the same rules, through a stage, in one transaction."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from boat import landing, raw_log
from boat.errors import DataError
from boat.raw_log.replay import replay
from boat.warehouse import Warehouse, connect
from boat.warehouse.snowflake import SnowflakeWarehouse
from tests.cloud.snowflake.account import Account

pytestmark = pytest.mark.cloud

HEADER = "event_id,session_id,event_time,event_type,product_id,price,note\n"
EVENTS = (
    HEADER
    + 'e1,s1,2024-01-01T10:00:00.123456Z,view,p1,1.5,"a ""quoted"", note"\n'
    + "e2,s1,2024-01-01T12:00:00+02:00,add,p1,,\n"
    + "e2,s1,2024-01-01T12:00:00+02:00,add,p1,,\n"
    + ",s2,1704103200,search,,,café\n"
)


@pytest.fixture
def warehouse(account: Account) -> SnowflakeWarehouse:
    return account.database()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "it's landing"
    folder.mkdir()
    return folder


def rows(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    with warehouse.transaction() as transaction:
        records = transaction.query(f"select * from raw.{table}").to_pylist()
    return sorted(records, key=lambda row: (row["source_file"], row.get("source_line")))


def test_every_kind_of_file_gives_the_same_rows_as_on_duckdb(
    warehouse: SnowflakeWarehouse, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.csv").write_text(EVENTS)
    event = {"client_id": "c", "event_time": 1704103200000, "event_type": "purchase", "product_id": "p", "x": {"y": 1}}
    (folder / "b.ndjson").write_text(json.dumps(event) + "\n" + json.dumps(event | {"quantity": 2}) + "\n")
    (folder / "products.csv").write_text("product_id,product_name,price,colour\np1,Mug,2.5,blue\np2,,,\n")
    (folder / "empty.csv").write_text(HEADER)
    (folder / "sku_to_content.csv").write_text("product_sku_hash,price_bucket\nx,3\n")
    (folder / "product_names.csv").write_text("product_sku_hash,product_name\nx,Hat\ny,Scarf\n")
    embedded = connect(f"duckdb:///{tmp_path}/warehouse.duckdb")
    assert raw_log.load(warehouse, folder) == raw_log.load(embedded, folder)
    for table in ("events", "products"):
        assert rows(warehouse, table) == rows(embedded, table)
        assert rows(warehouse, table)
    ledger = [[{**row, "loaded_at": None} for row in rows(database, "loads")] for database in (warehouse, embedded)]
    assert ledger[0] == ledger[1]


def test_a_repeated_file_or_event_is_loaded_once(warehouse: SnowflakeWarehouse, folder: Path) -> None:
    (folder / "a.csv").write_text(EVENTS)
    first = raw_log.load(warehouse, folder)
    assert (first.received, first.accepted, first.duplicate) == (4, 3, 1)
    (folder / "b.csv").write_text(EVENTS + "e9,s1,2024-01-01T13:00:00Z,view,p1,,\n")
    again = raw_log.load(warehouse, folder)
    assert again.files[0].already_loaded
    assert (again.received, again.accepted, again.duplicate) == (5, 1, 4)
    assert len(rows(warehouse, "events")) == 4


def test_a_bad_row_in_the_second_file_rolls_the_first_back(warehouse: SnowflakeWarehouse, folder: Path) -> None:
    (folder / "a.csv").write_text(EVENTS)
    (folder / "b.csv").write_text(EVENTS + "e9,s1,yesterday,view,p1,,\n")
    with pytest.raises(DataError, match=r"b\.csv:6: event_time 'yesterday' is not a time"):
        raw_log.load(warehouse, folder)
    assert rows(warehouse, "events") == []
    assert rows(warehouse, "loads") == []
    (folder / "b.csv").unlink()
    assert raw_log.load(warehouse, folder).accepted == 3


def test_parallel_loads_load_every_event_once(warehouse: SnowflakeWarehouse, folder: Path) -> None:
    shared = "".join(f"e{number},s1,2024-01-01T10:00:00Z,view,p1,,\n" for number in range(200))
    files = [folder / f"{name}.csv" for name in "abcd"]
    for file in files:
        file.write_text(f"{HEADER}{shared}{file.stem},s1,2024-01-01T11:00:00Z,view,p1,,\n")
    (folder / "first.csv").write_text(HEADER)
    raw_log.load(warehouse, folder / "first.csv")  # the tables exist, as after the first load
    with ThreadPoolExecutor(len(files)) as loaders:
        reports = list(loaders.map(lambda file: raw_log.load(warehouse, file), files))
    assert sum(report.accepted for report in reports) == 200 + len(files)
    assert sum(report.duplicate for report in reports) == 200 * (len(files) - 1)
    ids = [row["event_id"] for row in rows(warehouse, "events")]
    assert len(ids) == len(set(ids)) == 200 + len(files)


def test_the_stage_is_empty_after_a_load(warehouse: SnowflakeWarehouse, account: Account, folder: Path) -> None:
    (folder / "a.csv").write_text(EVENTS)
    raw_log.load(warehouse, folder)
    put = next(statement["sql"] for statement in reversed(account.history()) if statement["sql"].startswith("put "))
    stage = put.split("@")[1].split()[0]
    again = f"copy into raw.landing_rows from @{stage} file_format = (type = parquet) force = true"
    with warehouse.transaction() as transaction:
        assert transaction.query("select count(*) as n from raw.landing_rows").to_pylist() == [{"n": 0}]
        assert transaction.query(again).to_pylist() == [{"status": "Copy executed with 0 files processed."}]


def test_a_load_runs_no_ddl_if_the_tables_exist(warehouse: SnowflakeWarehouse, account: Account, folder: Path) -> None:
    (folder / "a.csv").write_text(EVENTS)
    raw_log.load(warehouse, folder)
    before = len(account.history())
    (folder / "b.csv").write_text(HEADER + "e10,s1,2024-01-01T13:00:00Z,view,p1,,\n")
    raw_log.load(warehouse, folder)
    created = [
        statement["sql"] for statement in account.history()[before:] if statement["sql"].lstrip().startswith("create")
    ]
    assert created == []


def test_dead_letters_and_conflicts_are_the_same_as_on_duckdb(
    warehouse: SnowflakeWarehouse, folder: Path, tmp_path: Path
) -> None:
    changed = EVENTS.replace("p1,1.5", "p9,1.5").replace("e2,", "e3,", 1) + "e9,s1,yesterday,view,p1,,it's late\n"
    (folder / "a.csv").write_text(EVENTS)
    (folder / "b.csv").write_text(changed + "e9,s1\n")
    letters = folder / "events" / ".dead-letter" / "2024-01-01" / "20240101T100000-0a1b2c3d-failed.ndjson"
    letters.parent.mkdir(parents=True)
    letter = {
        "received_at": "2024-01-01T10:00:00+00:00",
        "reason": "too_deep",
        "field": "",
        "message": "No.",
        "payload": "{",
    }
    letters.write_text(json.dumps(letter) + "\n")
    embedded = connect(f"duckdb:///{tmp_path}/warehouse.duckdb")
    apart = landing.BadRows("quarantine")
    report = raw_log.load(warehouse, folder, apart)
    assert report == raw_log.load(embedded, folder, apart)
    reasons = {reason for file in report.files for reason, _ in file.reasons}
    assert reasons == {"too_deep", "id_conflict", "not_a_time", "wrong_field_count"}
    letters = [
        sorted(({**row, "received_at": None} for row in rows(database, "dead_letters")), key=str)
        for database in (warehouse, embedded)
    ]
    assert letters[0] == letters[1]
    assert len(letters[0]) == report.failed


def test_a_replay_finds_and_corrects_differences(warehouse: SnowflakeWarehouse, folder: Path) -> None:
    (folder / "a.csv").write_text(EVENTS)
    raw_log.load(warehouse, folder)
    before = rows(warehouse, "events")
    days = (date(2024, 1, 1), date(2024, 1, 2))
    assert [(day.live, day.differs) for day in replay(warehouse, folder, *days).days] == [(3, False)]
    with warehouse.transaction() as transaction:
        transaction.execute("delete from raw.events where event_id = 'e1'")
        transaction.execute("update raw.events set url = 'x' where event_id = 'e2'")
    (day,) = replay(warehouse, folder, *days, repair=True).days
    assert (day.live, day.rebuilt, day.only_live, day.only_rebuilt, day.replaced) == (2, 3, 1, 2, True)
    assert rows(warehouse, "events") == before
