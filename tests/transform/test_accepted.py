"""No single row of the raw log stops the build or fails a critical expectation.

The tests insert rows without the loader, because earlier versions accepted more.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boat import quality
from boat.quality import QualityReport
from boat.reports import kpis
from boat.transform import dbt
from boat.warehouse import Warehouse
from expectations import suites
from tests.transform.conftest import Build, Event, build, connect, shop_events
from tests.transform.test_incremental import MODELS, full_build, tables

pytestmark = pytest.mark.filterwarnings("ignore:`schema_name` is deprecated:DeprecationWarning")

DAY = datetime(2024, 3, 5, 12)
NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
COLUMNS = (
    *("event_id", "shop", "session_id", "client_id", "event_time", "received_at", "event_type", "product_id", "url"),
    *("query", "price", "quantity", "schema_version", "extra", "load_id", "source_file", "source_line"),
)
LONG = ("\"quoted' : {batch} %s é 物 \\N \\ ; -- " * 9)[:250]


def plant(shop: Warehouse, events: list[Event], load_id: str = "earlier") -> None:
    """Insert rows into the raw log without the loader."""
    marks = ", ".join("?" * len(COLUMNS))
    with shop.transaction() as transaction:
        for line, event in enumerate(events, 1):
            row = {"shop": "shop", "event_id": f"{load_id}-{line}", "session_id": "planted", "event_time": DAY}
            row |= {"event_type": "pageview", "schema_version": 1, "load_id": load_id, "source_file": load_id}
            row |= {"source_line": line, **event}
            transaction.execute(f"insert into raw.events values ({marks})", [row.get(name) for name in COLUMNS])
        transaction.execute(
            f"""insert into raw.loads values
            ('{load_id}', '{load_id}', '{load_id}', 'events', {len(events)}, {len(events)}, 0, 0, now()::timestamp)"""
        )


def legacy() -> list[Event]:
    """Return rows that earlier versions accepted and the loader now refuses."""
    return [
        {"event_time": datetime(2609, 1, 1)},
        {"event_time": datetime(1999, 12, 31, 23, 59, 59)},
        {"event_time": datetime(12, 1, 1)},
        {"event_time": NOW + timedelta(days=3)},
        {"event_time": None},
        {"event_type": "teleport"},
        {"event_type": None},
        {"event_type": "detail"},
        {"session_id": None},
        {"event_id": None},
        {"shop": None},
    ]


def bots() -> list[Event]:
    return [{"received_at": DAY, "extra": '{"is_bot": true}', "session_id": "crawler"} for _ in range(2)]


def extreme() -> list[Event]:
    """Return accepted rows, each at a limit of the contract."""
    bought = {"event_type": "purchase", "product_id": "p1", "shop": "extreme"}
    return [
        # Wrong and extreme device clocks.
        {"event_time": datetime(1980, 1, 1), "received_at": NOW, "session_id": "old clock"},
        {"event_time": NOW + timedelta(days=400), "received_at": NOW, "session_id": "fast clock"},
        {"event_time": NOW - timedelta(days=7), "received_at": NOW, "session_id": "late"},
        {"event_time": datetime(2000, 1, 1), "session_id": "first moment"},
        {"event_time": NOW + timedelta(hours=23, minutes=55), "session_id": "last moment"},
        # Large amounts that cancel. Their sum depends on the order, which differs between hours and days.
        *(
            {
                **bought,
                "session_id": f"a{hour}",
                "event_time": DAY + timedelta(hours=hour),
                "price": sign * 1e10,
                "quantity": 1e6,
            }
            for hour, sign in enumerate((1, -1, 1, -1))
        ),
        *(
            {
                **bought,
                "session_id": "a1",
                "event_time": DAY + timedelta(hours=1),
                "price": 1e10,
                "quantity": sign * 1e6,
            }
            for sign in (1, -1)
        ),
        *({**bought, "session_id": f"b{number}", "price": 33.44, "quantity": 1} for number in range(3)),
        {**bought, "session_id": "inf", "price": float("inf"), "quantity": float("nan")},
        {**bought, "session_id": "no pieces", "price": 1, "quantity": 0},
        {**bought, "session_id": "tax", "price": 1, "extra": '{"tax": -5, "shipping": "-0.5", "transaction_id": "o9"}'},
        {
            **bought,
            "session_id": "odd",
            "price": 1,
            "extra": '{"tax": "inf", "shipping": 1e300, "transaction_id": "000"}',
        },
        # Ids with separators, all at the same time.
        *(
            {"session_id": LONG, "client_id": LONG, "product_id": LONG, "shop": LONG, "url": LONG, "event_type": kind}
            for kind in ("detail", "click", "add", "add", "remove", "purchase", "purchase")
        ),
        {"shop": "a", "session_id": "b:c", "client_id": "x:1"},
        {"shop": "a:b", "session_id": "c", "client_id": "x"},
        {"shop": "a", "session_id": None, "client_id": "b:1709640000"},
        {"shop": "a", "session_id": None, "client_id": "client", "event_time": DAY},
        {"shop": "a", "session_id": "b:1709640000", "client_id": "client"},
        {"event_type": "search", "session_id": "odd search", "extra": '{"results": "many", "is_bot": "no"}'},
        # Long sessions: many events, or many years.
        *({"session_id": "busy", "event_type": "detail", "product_id": f"p{number % 50}"} for number in range(3000)),
        {"session_id": "for years", "event_time": datetime(2004, 1, 1)},
        {"session_id": "for years", "event_time": datetime(2014, 1, 1)},
    ]


class Planted(NamedTuple):
    """A shop with planted rows: its tables after an incremental build and after a full build."""

    built: Build
    incremental: dict[str, list[dict[str, Any]]]
    full: dict[str, list[dict[str, Any]]]
    report: QualityReport


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    shop = connect(folder, shop_events())
    build(shop, folder, *MODELS)
    plant(shop, [*extreme(), *legacy(), *bots()])
    after = build(shop, folder, "--exclude", "resource_type:unit_test")
    assert after.code == 0, after.output
    rows, results = tables(after), dbt.read_results(after.target)
    assert {result.name for result in results if result.status == "warn"} == {
        "not_negative_fct_transactions_shipping",
        "not_negative_fct_transactions_tax",
    }
    full = full_build(after, folder)
    return Planted(after, rows, full, quality.check(shop, suites(), folder / "reports"))


def test_no_row_fails_a_critical_expectation(planted: Planted) -> None:
    quality.raise_for(planted.report)


def test_rows_that_the_loader_would_refuse_are_excluded_and_reported(planted: Planted) -> None:
    excluded = {row["reason"]: row["events"] for row in planted.built.rows("from staging.stg_events_excluded")}
    assert excluded == {
        "implausible event_time": 5,
        "unknown event_type": 2,
        "no product_id": 1,
        "no session_id and no client_id": 1,
        "no event_id": 1,
        "no shop": 1,
        "bot": 2,
    }
    left = {"planted", "crawler"} & {row["session_id"] for row in planted.incremental["fct_sessions"]}
    assert left == set()
    warnings = {check.column for check in planted.report.where("failed", "warning") if check.table == "raw.events"}
    assert warnings >= {"event_time", "event_type", "product_id", "client_id", "event_id", "shop"}


def test_excluded_rows_are_on_the_kpi_page(planted: Planted, tmp_path: Path) -> None:
    html = kpis.write(planted.built.warehouse, tmp_path).read_text()
    assert "<td>implausible event_time<td>5<td>" in html
    assert "<td>bot<td>2<td>" in html


def test_an_event_of_a_wrong_clock_gets_the_time_of_receipt(planted: Planted) -> None:
    started = {row["session_id"]: row["started_at"] for row in planted.incremental["fct_sessions"]}
    assert started["old clock"] == started["fast clock"] == NOW
    assert started["late"] == NOW - timedelta(days=7)


def test_an_incremental_build_equals_a_full_build(planted: Planted) -> None:
    rounded = ("revenue", "tax", "shipping")  # sums of large amounts that cancel depend on the order

    def exact(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name not in rounded} for row in rows]

    for mart, rows in planted.incremental.items():
        assert exact(rows) == exact(planted.full[mart]), mart


def test_ids_with_separators_have_separate_sessions(planted: Planted) -> None:
    sessions = planted.built.rows(
        """select shop, session_id, client_id, event_count from marts.fct_sessions where shop in ('a', 'a:b')
        order by all"""
    )
    assert [tuple(row.values()) for row in sessions] == [
        ("a", "b:1709640000", "client", 1),
        ("a", "b:c", "x:1", 1),
        ("a", None, "b:1709640000", 1),
        ("a", None, "client", 1),
        ("a:b", "c", "x", 1),
    ]


def test_equal_purchases_are_separate_events_and_equal_views_are_duplicates(planted: Planted) -> None:
    (session,) = (row for row in planted.incremental["fct_sessions"] if row["session_id"] == LONG)
    assert (session["event_count"], session["add_count"], session["purchase_count"]) == (7, 2, 2)
    (busy,) = (row for row in planted.incremental["fct_sessions"] if row["session_id"] == "busy")
    assert busy["event_count"] == 50


def test_returns_are_not_counted_as_purchases(tmp_path: Path) -> None:
    minute = timedelta(minutes=1)
    bought = {"event_type": "purchase", "price": 10.0, "session_id": "returns"}
    shop = connect(tmp_path, shop_events()[:1])
    plant(
        shop,
        [
            {**bought, "product_id": "p1", "quantity": -2},
            {"event_type": "detail", "product_id": "p2", "event_time": DAY + minute, "session_id": "returns"},
            {"event_type": "detail", "product_id": "p3", "event_time": DAY + 2 * minute, "session_id": "returns"},
            {**bought, "product_id": "p4", "quantity": 3, "event_time": DAY + 9 * minute, "session_id": "buys"},
            {"event_type": "add", "product_id": "p5", "event_time": DAY - minute, "session_id": "returns"},
        ],
    )
    result = build(shop, tmp_path, *MODELS)
    (live,) = result.rows("select count(*) as sessions from staging.live_sessions")
    assert live == {"sessions": 0}
    sessions = {row["session_id"]: row for row in tables(result)["fct_sessions"]}
    returns = sessions["returns"]
    assert (returns["is_purchase"], returns["purchase_count"], returns["transaction_count"]) == (False, 0, 0)
    assert (returns["first_purchase_at"], returns["revenue"]) == (None, -20.0)
    (day,) = (row for row in tables(result)["kpi_daily"] if row["day"] == DAY.date())
    assert (day["transactions"], day["buying_sessions"], day["revenue"]) == (1, 1, 10.0)
    items = [row["product_id"] for row in tables(result)["recommend_examples"]]
    assert items == ["p5", "p2", "p3"]
    examples = [row["event_type"] for row in tables(result)["intent_examples"] if row["session_key"] == "shop:returns"]
    assert examples == ["add", "detail", "detail"]
    (cart,) = result.rows("from marts.cart_sessions")
    assert not cart["is_purchase"]


def test_events_of_equal_times_are_in_file_order_and_shared_sessions_are_split(tmp_path: Path) -> None:
    views = [f"p{number}" for number in (3, 1, 2, 6, 5, 4)]
    shared = {"session_id": "till", "event_type": "detail", "product_id": "p1"}
    shop = connect(
        tmp_path,
        [
            *({"session_id": "same second", "event_time": DAY, "event_type": "detail", "product_id": p} for p in views),
            {**shared, "event_time": DAY, "client_id": "ann"},
            {**shared, "event_time": DAY + timedelta(minutes=1), "client_id": "bob"},
            {**shared, "event_time": DAY + timedelta(minutes=2)},
            {**shared, "event_time": DAY, "session_id": "own", "client_id": "ann"},
            {**shared, "event_time": DAY + timedelta(minutes=1), "session_id": "own"},
        ],
    )
    result = build(shop, tmp_path, *MODELS)
    order = result.rows(
        "select product_id from marts.fct_session_events where session_id = 'same second' order by position"
    )
    assert [row["product_id"] for row in order] == views
    sessions = {row["session_key"]: row["event_count"] for row in tables(result)["fct_sessions"]}
    assert sessions == {
        "shop:same second": 6,
        "shop:own": 2,
        "shop:till": 1,
        "shop:till:client:ann": 1,
        "shop:till:client:bob": 1,
    }
    report = quality.check(shop, [suite for suite in suites() if suite.name == "marts.fct_sessions"], tmp_path)
    (clash,) = (check for check in report.where("failed", "warning") if "several clients" in check.expectation)
    assert "till" in clash.observed
    quality.raise_for(report)
