"""Great Expectations on a real DuckDB: failed expectations, their severity, and the reports."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boat import quality, warehouse
from boat.errors import CheckError, QualityError
from boat.quality import Check, QualityReport
from boat.warehouse import Warehouse
from expectations import CHANGED_ROWS, suites
from tests.transform.conftest import Build, shop_events

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

# The schema belongs to the asset, because a source has tables in two schemas.
pytestmark = pytest.mark.filterwarnings("ignore:`schema_name` is deprecated:DeprecationWarning")


@pytest.fixture
def loaded(built: Build, tmp_path: Path) -> Warehouse:
    """Return a copy of the healthy shop, which tests may damage."""
    file = tmp_path / "warehouse.duckdb"
    shutil.copy(built.target.parent / "warehouse.duckdb", file)
    return warehouse.connect(f"duckdb:///{file}")


def damage(loaded: Warehouse, *statements: str) -> None:
    with loaded.transaction() as transaction:
        for statement in statements:
            transaction.execute(statement)


def suites_of(*tables: str) -> "list[ExpectationSuite]":
    return [suite for suite in suites() if suite.name in tables]


UNIQUE_IDS = "Each combination of shop, event_id is in one row"


def failed(report: QualityReport, severity: str = "critical") -> set[tuple[str, str | None]]:
    return {(check.table, check.column) for check in report.where("failed", severity)}


def test_a_healthy_shop_passes_and_each_table_has_its_page(loaded: Warehouse, tmp_path: Path) -> None:
    report = quality.check(loaded, suites(), tmp_path / "reports")
    quality.raise_for(report)
    assert report.count() == {"passed": len(report.checks)}
    tables = {suite.name for suite in suites()}
    assert set(report.pages) == {check.table for check in report.checks} == tables
    for table, page in report.pages.items():
        assert table in page.read_text()
        assert page.name in (tmp_path / "reports" / "data_docs" / "index.html").read_text()


def test_every_planted_fault_is_named_with_its_rows(loaded: Warehouse, tmp_path: Path) -> None:
    damage(
        loaded,
        "update raw.events set event_type = 'stare' where event_type = 'search'",
        "insert into raw.events from raw.events where event_type = 'click' limit 2",
        "update marts.fct_session_events set session_key = null where position = 3",
        "update marts.recommend_examples set event_time = timestamp '2999-01-01' where position = 1",
        """insert into marts.intent_examples by name
        select * replace ('purchase' as event_type, position + 900 as position) from marts.intent_examples limit 1""",
    )
    report = quality.check(loaded, suites(), tmp_path / "reports")
    assert failed(report, "warning") == {("raw.events", "event_type")}
    assert failed(report) == {
        ("raw.events", None),
        ("marts.fct_session_events", "session_key"),
        ("marts.recommend_examples", "event_time"),
        ("marts.intent_examples", "event_type"),
    }
    failed_checks = {
        (check.table, check.column): check for check in (*report.where("failed"), *report.where("failed", "warning"))
    }
    searches = sum(event["event_type"] == "search" for event in shop_events())
    unknown = failed_checks["raw.events", "event_type"]
    assert unknown.failing_rows == searches
    assert "'stare'" in unknown.observed
    (repeated,) = (check for check in report.where("failed") if check.expectation == UNIQUE_IDS)
    assert (repeated.failing_rows, repeated.observed.count("event_id")) == (2, 2)
    with pytest.raises(QualityError) as error:
        quality.raise_for(report)
    for part in (
        "raw.events",
        UNIQUE_IDS,
        str(report.pages["raw.events"]),
    ):
        assert part in str(error.value)


def test_rows_of_earlier_loads_are_not_checked_again(loaded: Warehouse, tmp_path: Path) -> None:
    everything = quality.check(loaded, suites(), tmp_path / "reports")
    changed = quality.check(loaded, suites(), tmp_path / "reports", CHANGED_ROWS)
    assert changed.count() == everything.count() == {"passed": len(everything.checks)}
    assert {check.table for check in changed.checks if check.rows == "changed"} == CHANGED_ROWS.keys()

    table, suite = "marts.fct_session_events", suites_of("marts.fct_session_events")
    with loaded.transaction() as transaction:
        earlier, newest = transaction.query(f"select distinct session_key from {table} limit 2")[
            "session_key"
        ].to_pylist()
    damage(loaded, f"update {table} set event_time = '2999-01-01' where session_key = '{earlier}' and position = 1")
    unchanged = quality.check(loaded, suite, tmp_path / "reports", {table: f"session_key = '{newest}'"})
    assert not unchanged.where("failed")
    again = quality.check(loaded, suite, tmp_path / "reports", {table: f"session_key = '{earlier}'"})
    assert [(check.column, check.rows) for check in again.where("failed")] == [("event_time", "changed")]
    with pytest.raises(QualityError, match="fct_session_events_changed_rows"):
        quality.raise_for(again)


def test_a_missing_product_or_client_is_reported_only_if_the_event_needs_it(loaded: Warehouse, tmp_path: Path) -> None:
    damage(
        loaded,
        "update raw.events set product_id = null where event_type = 'add'",
        "update raw.events set client_id = null, session_id = null where event_type = 'remove'",
    )
    report = quality.check(loaded, suites_of("raw.events"), tmp_path / "reports")
    assert failed(report, "warning") == {("raw.events", "product_id"), ("raw.events", "client_id")}
    quality.raise_for(report)


def test_a_warning_is_shown_and_does_not_stop(loaded: Warehouse, tmp_path: Path) -> None:
    damage(loaded, "update raw.events set price = -price", "update marts.fct_sessions set is_purchase = true")
    report = quality.check(loaded, suites_of("raw.events", "marts.fct_sessions"), tmp_path / "reports")
    assert failed(report, "warning") == {("raw.events", "price"), ("marts.fct_sessions", "is_purchase")}
    quality.raise_for(report)
    first = quality.rows_table(report)[0]
    assert (first["status"], first["severity"]) == ("failed", "warning")


def test_a_lost_line_of_a_file_is_critical(loaded: Warehouse, tmp_path: Path) -> None:
    damage(loaded, "update raw.loads set accepted = accepted - 1")
    report = quality.check(loaded, suites_of("raw.loads"), tmp_path / "reports")
    with pytest.raises(QualityError, match=r"raw\.loads: received = accepted \+ duplicate \+ failed"):
        quality.raise_for(report)


@pytest.mark.parametrize(
    ("loads", "warns"),
    [
        ([("today", 990, 10), ("today", 10, 0)], False),
        ([("today", 1000, 0), ("dead letters", 0, 40)], False),
        ([("today", 900, 100)], True),
        ([("a small file", 2, 2)], False),
        ([("last year", 100, 900), ("today", 1000, 0)], False),
    ],
)
def test_many_dead_letters_are_a_warning(
    loads: list[tuple[str, int, int]], warns: bool, loaded: Warehouse, tmp_path: Path
) -> None:
    rows = ", ".join(
        f"('{name}', '{name}', '{number}', 'events', {accepted + failed}, {accepted}, 0, {failed}, "
        f"timestamp '{2023 if name == 'last year' else 2024}-06-01 10:00:00')"
        for number, (name, accepted, failed) in enumerate(loads)
    )
    damage(loaded, "delete from raw.loads", f"insert into raw.loads values {rows}")
    report = quality.check(loaded, suites_of("raw.loads"), tmp_path / "reports")
    quality.raise_for(report)
    assert bool(report.where("failed", "warning")) == warns


def test_an_empty_table_is_critical_if_no_model_could_be_trained(loaded: Warehouse, tmp_path: Path) -> None:
    damage(loaded, "delete from marts.recommend_examples", "delete from marts.intent_examples")
    report = quality.check(loaded, suites_of("marts.recommend_examples", "marts.intent_examples"), tmp_path / "reports")
    assert failed(report) == {("marts.recommend_examples", None)}
    assert ("marts.intent_examples", None) in failed(report, "warning")


def test_a_check_that_could_not_run_is_not_reported_as_bad_data(loaded: Warehouse, tmp_path: Path) -> None:
    damage(loaded, "drop table marts.intent_examples", "alter table raw.loads drop column failed")
    report = quality.check(loaded, suites_of("raw.loads", "marts.intent_examples"), tmp_path / "reports")
    assert failed(report) == set()
    unknown = report.where("could not check")
    assert {check.table for check in unknown} == {"marts.intent_examples", "raw.loads"}
    (ledger,) = [check for check in unknown if check.table == "raw.loads"]
    assert "failed" in ledger.observed
    assert "marts.intent_examples" not in report.pages
    with pytest.raises(CheckError, match=r"raw\.loads"):
        quality.raise_for(report)


def test_failed_checks_come_before_checks_that_could_not_run() -> None:
    bad = Check("raw.events", "all", "expect_x", "shop", "critical", "failed", "3 of 9 rows", 3)
    unknown = Check("raw.loads", "all", "expect_y", None, "critical", "could not check", "no table", None)
    with pytest.raises(QualityError, match=r"raw\.events\.shop"):
        quality.raise_for(QualityReport((unknown, bad), {}))


def test_the_warehouse_is_unlocked_after_a_check(loaded: Warehouse, tmp_path: Path) -> None:
    quality.check(loaded, suites_of("raw.loads"), tmp_path / "reports")
    script = (
        f"import duckdb; duckdb.connect({str(tmp_path / 'warehouse.duckdb')!r}).execute('create table mine (a int)')"
    )
    process = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr


def test_old_pages_are_deleted(loaded: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MAX_RUNS", 2)
    ledger = suites_of("raw.loads")
    pages = [quality.check(loaded, ledger, tmp_path / "reports").pages["raw.loads"] for _ in range(4)]
    assert [page.exists() for page in pages] == [False, False, True, True]
    index = (tmp_path / "reports" / "data_docs" / "index.html").read_text()
    assert [page.parent.name in index for page in pages] == [False, False, True, True]


def test_reports_contain_no_connection_string(loaded: Warehouse, tmp_path: Path) -> None:
    quality.check(loaded, suites_of("raw.loads"), tmp_path / "reports")
    files = [file for file in (tmp_path / "reports").rglob("*") if file.suffix in (".json", ".html", ".yml")]
    assert files
    assert not [file for file in files if "duckdb_buffered:" in file.read_text()]
