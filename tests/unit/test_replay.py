"""The raw log is what its landing files give; where it is not, a replay shows it and can put it right."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from boat.errors import DataError, SettingError
from boat.landing import load
from boat.replay import Replay, replay
from boat.warehouse.duckdb import DuckDBWarehouse

FIRST, LAST = date(2024, 1, 1), date(2024, 1, 31)


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")


@pytest.fixture
def landing(tmp_path: Path, warehouse: DuckDBWarehouse) -> Path:
    """Two loaded files with three days, in which one id comes twice."""
    folder = tmp_path / "landing"
    folder.mkdir()
    write(folder / "b.ndjson", [event("1", 1), event("2", 1), event("3", 2)])
    load(warehouse, folder)
    write(folder / "a.ndjson", [event("3", 2, product_id="other"), event("4", 3)])
    load(warehouse, folder)
    return folder


def event(event_id: str, day: int, **others: Any) -> dict[str, Any]:
    moment = f"2024-01-{day:02}T10:00:00Z"
    return {"event_id": event_id, "session_id": "s", "event_time": moment, "event_type": "pageview", **others}


def write(path: Path, events: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in events))


def plant(warehouse: DuckDBWarehouse, sql: str) -> None:
    with warehouse.session() as session:
        session.execute(sql)


def events(warehouse: DuckDBWarehouse) -> list[dict[str, Any]]:
    with warehouse.session() as session:
        return session.query("select * from raw.events order by event_id").to_pylist()


def summary(found: Replay) -> list[tuple[int, int, int, int, int]]:
    return [(day.day.day, day.live, day.rebuilt, day.only_live, day.only_rebuilt) for day in found.days]


def test_an_untouched_log_is_what_its_files_give(warehouse: DuckDBWarehouse, landing: Path) -> None:
    before = events(warehouse)
    found = replay(warehouse, landing, FIRST, LAST, swap=True)
    assert summary(found) == [(1, 2, 2, 0, 0), (2, 1, 1, 0, 0), (3, 1, 1, 0, 0)]
    assert (found.differing, found.files, found.lost) == ((), 2, ())
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
def test_a_dry_run_shows_the_difference_and_a_swap_mends_it_once(
    warehouse: DuckDBWarehouse, landing: Path, sql: str, difference: tuple[int, ...]
) -> None:
    before = events(warehouse)
    plant(warehouse, sql)
    damaged = events(warehouse)
    dry = replay(warehouse, landing, FIRST, LAST)
    assert [row for row in summary(dry) if row[1:] != (row[1], row[1], 0, 0)] == [difference]
    assert events(warehouse) == damaged
    swapped = replay(warehouse, landing, FIRST, LAST, swap=True)
    assert [day.day.day for day in swapped.days if day.swapped] == [1]
    assert events(warehouse) == before
    assert replay(warehouse, landing, FIRST, LAST, swap=True).differing == ()
    assert events(warehouse) == before


def test_days_outside_the_range_are_left_alone(warehouse: DuckDBWarehouse, landing: Path) -> None:
    plant(warehouse, "update raw.events set url = 'x'")
    replay(warehouse, landing, date(2024, 1, 2), date(2024, 1, 2), swap=True)
    assert [row["url"] for row in events(warehouse)] == ["x", "x", None, "x"]


def test_nothing_of_the_rebuilding_stays(warehouse: DuckDBWarehouse, landing: Path) -> None:
    replay(warehouse, landing, FIRST, LAST)
    with warehouse.session() as session:
        schemas = session.query("select schema_name as name from information_schema.schemata")["name"].to_pylist()
    assert not [name for name in schemas if "replay" in name]


def test_a_file_that_was_never_loaded_is_left_to_the_ingestion(warehouse: DuckDBWarehouse, landing: Path) -> None:
    write(landing / "c.ndjson", [event("5", 1)])
    found = replay(warehouse, landing, FIRST, LAST, swap=True)
    assert (found.files, found.differing) == (2, ())


def test_what_a_missing_file_held_is_not_thrown_away(warehouse: DuckDBWarehouse, landing: Path) -> None:
    (landing / "b.ndjson").unlink()
    found = replay(warehouse, landing, FIRST, LAST)
    assert found.lost == ("b.ndjson",)
    before = events(warehouse)
    with pytest.raises(DataError, match=r"files that are gone: b\.ndjson"):
        replay(warehouse, landing, FIRST, LAST, swap=True)
    assert events(warehouse) == before


def test_an_event_that_moved_out_of_the_range_is_not_lost(warehouse: DuckDBWarehouse, landing: Path) -> None:
    plant(warehouse, "update raw.events set event_time = timestamp '2024-01-09 10:00:00' where event_id = '1'")
    with pytest.raises(DataError, match="2024-01-01"):
        replay(warehouse, landing, date(2024, 1, 1), date(2024, 1, 3), swap=True)
    replay(warehouse, landing, FIRST, LAST, swap=True)
    assert [row["event_time"].day for row in events(warehouse)] == [1, 1, 2, 3]


@pytest.mark.parametrize("last", [date(2023, 12, 31), date(2030, 1, 1)])
def test_a_range_is_bounded(warehouse: DuckDBWarehouse, landing: Path, last: date) -> None:
    with pytest.raises(SettingError, match="no range of 1 to 400 days"):
        replay(warehouse, landing, FIRST, last)
