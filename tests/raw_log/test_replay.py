"""A replay compares the raw log with its landing files, shows the differences and can repair them."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from boat.errors import DataError, SettingError
from boat.landing import BadRows
from boat.raw_log import load
from boat.raw_log import replay as steps
from boat.raw_log.replay import Replay, replay
from boat.warehouse.duckdb import DuckDBWarehouse

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 31)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")


@pytest.fixture
def landing(tmp_path: Path, warehouse: DuckDBWarehouse) -> Path:
    """Write and load two files with events of three days. One event id occurs in both."""
    folder = tmp_path / "landing"
    folder.mkdir()
    write(folder / "b.ndjson", [event("1", 1), event("2", 1), event("3", 2)])
    load(warehouse, folder)
    write(folder / "a.ndjson", [event("3", 2, product_id="other"), event("4", 3)])
    load(warehouse, folder)
    return folder


def event(event_id: str, day: int, **fields: Any) -> dict[str, Any]:
    moment = f"2024-01-{day:02}T10:00:00Z"
    return {"event_id": event_id, "session_id": "s", "event_time": moment, "event_type": "pageview", **fields}


def write(path: Path, events: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in events))


def plant(warehouse: DuckDBWarehouse, sql: str) -> None:
    with warehouse.transaction() as transaction:
        transaction.execute(sql)


def events(warehouse: DuckDBWarehouse) -> list[dict[str, Any]]:
    with warehouse.transaction() as transaction:
        return transaction.query("select * from raw.events order by event_id").to_pylist()


def summary(result: Replay) -> list[tuple[int, int, int, int, int]]:
    return [(day.day.day, day.live, day.rebuilt, day.only_live, day.only_rebuilt) for day in result.days]


def test_an_unchanged_log_equals_its_rebuilt_files(warehouse: DuckDBWarehouse, landing: Path) -> None:
    before = events(warehouse)
    result = replay(warehouse, landing, FIRST, LAST, repair=True)
    assert summary(result) == [(1, 2, 2, 0, 0), (2, 1, 1, 0, 0), (3, 1, 1, 0, 0)]
    assert (result.differing, result.rebuilt.files, result.rebuilt.lost) == ((), 2, ())
    assert events(warehouse) == before


DAMAGES: dict[str, tuple[str, tuple[int, ...]]] = {
    "a lost event": ("delete from raw.events where event_id = '1'", (1, 1, 2, 0, 1)),
    "a lost day": ("delete from raw.events where event_id in ('1', '2')", (1, 0, 2, 0, 2)),
    "a changed event": ("update raw.events set url = 'x' where event_id = '2'", (1, 2, 2, 1, 1)),
    "a doubled event": ("insert into raw.events select * from raw.events where event_id = '1'", (1, 3, 2, 0, 0)),
    "an event from nowhere": (
        "insert into raw.events select * replace ('9' as event_id, 'none' as load_id) from raw.events "
        "where event_id = '1'",
        (1, 3, 2, 1, 0),
    ),
}


@pytest.mark.parametrize(("sql", "difference"), DAMAGES.values(), ids=DAMAGES)
def test_a_dry_run_shows_the_difference_and_a_repair_removes_it_once(
    warehouse: DuckDBWarehouse, landing: Path, sql: str, difference: tuple[int, ...]
) -> None:
    before = events(warehouse)
    plant(warehouse, sql)
    damaged = events(warehouse)
    dry_run = replay(warehouse, landing, FIRST, LAST)
    assert [row for row in summary(dry_run) if row[1:] != (row[1], row[1], 0, 0)] == [difference]
    assert events(warehouse) == damaged
    repaired = replay(warehouse, landing, FIRST, LAST, repair=True)
    assert [day.day.day for day in repaired.days if day.replaced] == [1]
    assert events(warehouse) == before
    assert replay(warehouse, landing, FIRST, LAST, repair=True).differing == ()
    assert events(warehouse) == before


def test_days_outside_the_range_are_not_changed(warehouse: DuckDBWarehouse, landing: Path) -> None:
    plant(warehouse, "update raw.events set url = 'x'")
    replay(warehouse, landing, date(2024, 1, 2), date(2024, 1, 2), repair=True)
    assert [row["url"] for row in events(warehouse)] == ["x", "x", None, "x"]


def test_temporary_schemas_are_dropped(warehouse: DuckDBWarehouse, landing: Path) -> None:
    replay(warehouse, landing, FIRST, LAST)
    with warehouse.transaction() as transaction:
        schemas = transaction.query("select schema_name as name from information_schema.schemata")["name"].to_pylist()
    assert not [name for name in schemas if "replay" in name]


def test_a_file_that_was_never_loaded_is_not_replayed(warehouse: DuckDBWarehouse, landing: Path) -> None:
    write(landing / "c.ndjson", [event("5", 1)])
    result = replay(warehouse, landing, FIRST, LAST, repair=True)
    assert (result.rebuilt.files, result.differing) == (2, ())


def test_events_of_a_missing_file_are_not_deleted(warehouse: DuckDBWarehouse, landing: Path) -> None:
    (landing / "b.ndjson").unlink()
    result = replay(warehouse, landing, FIRST, LAST)
    assert result.rebuilt.lost == ("b.ndjson",)
    before = events(warehouse)
    with pytest.raises(DataError, match=r"missing files: b\.ndjson"):
        replay(warehouse, landing, FIRST, LAST, repair=True)
    assert events(warehouse) == before


def test_an_event_that_moved_out_of_the_range_is_not_lost(warehouse: DuckDBWarehouse, landing: Path) -> None:
    plant(warehouse, "update raw.events set event_time = timestamp '2024-01-09 10:00:00' where event_id = '1'")
    with pytest.raises(DataError, match="2024-01-01"):
        replay(warehouse, landing, date(2024, 1, 1), date(2024, 1, 3), repair=True)
    replay(warehouse, landing, FIRST, LAST, repair=True)
    assert [row["event_time"].day for row in events(warehouse)] == [1, 1, 2, 3]


def test_a_range_may_have_any_length_but_must_be_in_order(warehouse: DuckDBWarehouse, landing: Path) -> None:
    assert len(replay(warehouse, landing, date(1990, 1, 1), date(2090, 1, 1)).days) == 3
    with pytest.raises(SettingError, match="before the first day"):
        replay(warehouse, landing, FIRST, date(2023, 12, 31))


def test_a_day_that_differs_has_example_events(warehouse: DuckDBWarehouse, landing: Path) -> None:
    plant(warehouse, "update raw.events set url = 'x' where event_id in ('2', '4')")
    assert [day.examples for day in replay(warehouse, landing, FIRST, LAST).days] == [("2",), (), ("4",)]


@pytest.fixture
def catalogue(warehouse: DuckDBWarehouse, landing: Path) -> Path:
    """Add a catalogue with a separate file of names, and rows that are bad."""
    (landing / "sku_to_content.csv").write_text(
        "product_sku_hash,description_vector,category_hash,image_vector,price_bucket\np,,c,,1.0\nq,,c,,2.0\n"
    )
    (landing / "product_names.csv").write_text("product_sku_hash,product_name\np,Mug\nr,Hat\n")
    search = '{"event_id": "7", "session_id": "s", "event_time": "2024-01-01", "event_type": "search", "query": "mug"}'
    (landing / "c.ndjson").write_text(search + "\nnot json\n{}\n")
    letters = landing / ".dead-letter" / "2024-01-01" / "20240101T100000-0a1b2c3d-failed.ndjson"
    letters.parent.mkdir(parents=True)
    letter = {
        "received_at": "2024-01-01T10:00:00Z",
        "reason": "too_deep",
        "field": "",
        "message": "No.",
        "payload": "{",
    }
    letters.write_text(json.dumps(letter) + "\n")
    load(warehouse, landing, BadRows("quarantine"))
    return landing


def raw_tables(warehouse: DuckDBWarehouse) -> dict[str, list[dict[str, Any]]]:
    with warehouse.transaction() as transaction:
        # An event file does not contain the time at which its row became a dead letter.
        received = "case when reason = 'too_deep' then received_at end as received_at"
        letters = f"(select * replace ({received}) from raw.dead_letters)"
        tables = ("raw.events", "raw.products", letters, "raw.loads")
        return {name: transaction.query(f"select * from {name} order by all").to_pylist() for name in tables}


LOSSES = {
    "a product": ("delete from raw.products where product_id = 'q'", ("products", "sku_to_content.csv", 2, 3, 0, 1)),
    "a name": (
        "update raw.products set product_name = 'Jug' where product_id = 'p'",
        ("products", "sku_to_content.csv", 3, 3, 1, 1),
    ),
    "a product from nowhere": (
        "insert into raw.products select * replace ('none' as load_id) from raw.products where product_id = 'q'",
        ("products", "", 1, 0, 1, 0),
    ),
    "a dead letter": (
        "delete from raw.dead_letters where reason = 'not_json'",
        ("dead_letters", "c.ndjson", 1, 2, 0, 1),
    ),
    "the collector's dead letter": (
        "update raw.dead_letters set payload = '' where reason = 'too_deep'",
        ("dead_letters", ".dead-letter/2024-01-01/20240101T100000-0a1b2c3d-failed.ndjson", 1, 1, 1, 1),
    ),
}


@pytest.mark.parametrize(("sql", "difference"), LOSSES.values(), ids=LOSSES)
def test_products_and_dead_letters_are_compared_and_replaced_by_file(
    warehouse: DuckDBWarehouse, catalogue: Path, sql: str, difference: tuple[Any, ...]
) -> None:
    before = raw_tables(warehouse)
    assert replay(warehouse, catalogue, FIRST, LAST).differing == ()
    plant(warehouse, sql)
    (result,) = [file for file in replay(warehouse, catalogue, FIRST, LAST, repair=True).tables if file.differs]
    counts = (result.live, result.rebuilt, result.only_live, result.only_rebuilt)
    assert (result.table, result.file, *counts, result.replaced) == (*difference, True)
    assert raw_tables(warehouse) == before
    assert replay(warehouse, catalogue, FIRST, LAST, repair=True).differing == ()


def test_a_search_is_an_event_of_its_day(warehouse: DuckDBWarehouse, catalogue: Path) -> None:
    before = raw_tables(warehouse)
    plant(warehouse, "delete from raw.events where event_type = 'search'")
    result = replay(warehouse, catalogue, FIRST, LAST, repair=True)
    assert [(day.day.day, day.only_rebuilt) for day in result.days if day.differs] == [(1, 1)]
    assert raw_tables(warehouse) == before


def test_days_can_be_replaced_in_any_order_and_in_parallel(warehouse: DuckDBWarehouse, landing: Path) -> None:
    before = events(warehouse)
    plant(warehouse, "update raw.events set event_time = event_time + interval 1 day")
    steps.rebuild(warehouse, landing, FIRST, LAST)
    days = [steps.compare_day(warehouse, date(2024, 1, day)) for day in (4, 3, 2, 1)]
    assert all(day.differs for day in days)
    steps.refuse_to_lose(warehouse, days)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):  # two days that move one event can conflict in DuckDB; a task retries that
            tried = [pool.submit(steps.replace_day, warehouse, day) for day in days]
            errors = [each.exception() for each in tried]
            days = [day for day, error in zip(days, errors, strict=True) if error]
    steps.clear(warehouse)
    assert (days, events(warehouse)) == ([], before)
