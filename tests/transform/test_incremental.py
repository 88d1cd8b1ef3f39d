"""An incremental build rebuilds only sessions with new or late events, and its tables are complete."""

import json
import random
from collections import defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boat import raw_log
from boat.transform import dbt
from boat.warehouse import Warehouse
from tests.transform.conftest import Build, Event, build, connect, shop_events
from tests.transform.test_dbt import sessions_in_python

MODELS = ("--exclude", "resource_type:test", "resource_type:unit_test")
MARTS = (
    *("fct_session_events", "fct_sessions", "recommend_examples", "intent_examples"),
    *("kpi_daily", "kpi_hourly", "fct_transactions", "dim_products", "daily_volume"),
)
PARTIAL_BUILD = (*MODELS, "--select", "+fct_session_events")
TEN = datetime(2024, 1, 1, 10)
DAY = 24 * 60


def arrive(shop: Warehouse, folder: Path, events: list[Event]) -> None:
    """Load events from a new file."""
    file = folder / f"events-{len(list(folder.glob('*.ndjson')))}.ndjson"
    file.write_text("".join(json.dumps(event, default=str) + "\n" for event in events))
    raw_log.load(shop, file)


def tables(result: Build) -> dict[str, list[dict[str, Any]]]:
    return {mart: result.rows(f"select * from marts.{mart} order by all") for mart in MARTS}


def full_build(result: Build, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the tables after a full build."""
    return tables(build(result.warehouse, folder, *MODELS, "--full-refresh"))


def reopened_sessions(result: Build) -> set[str]:
    """Return the keys of the sessions that the last build reopened."""
    rows = result.rows("select distinct session_key from intermediate.int_session_events_changed")
    return {row["session_key"] for row in rows}


def event(name: str, minutes: float, kind: str = "detail", **fields: Any) -> Event:
    product = {} if kind in ("pageview", "search") else {"product_id": name}
    time = TEN + timedelta(minutes=minutes)
    return {"event_id": name, "event_time": time, "event_type": kind, **product, **fields}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_tables_do_not_depend_on_the_order_of_arrival(tmp_path: Path, seed: int) -> None:
    chance, events = random.Random(seed), shop_events(seed)
    order = sorted(events, key=lambda event: (chance.random() < 0.3, chance.random(), event["event_id"]))
    cuts = sorted(chance.sample(range(1, len(order)), 2))
    loads = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    shop = connect(tmp_path, loads[0])
    result = build(shop, tmp_path, *MODELS)
    for number, load in enumerate(loads[1:], 2):
        arrive(shop, tmp_path, load)
        result = build(shop, tmp_path, *MODELS)
        assert result.code == 0, result.output
        built_sessions: dict[str, list[str]] = defaultdict(list)
        for row in result.rows("from marts.fct_session_events order by session_key, position"):
            built_sessions[row["session_key"]].append(row["event_id"])
        # The first file is `events.ndjson`, whose name comes after `events-1.ndjson`.
        expected = sessions_in_python([event for load in (*loads[1:number], loads[0]) for event in load])
        assert built_sessions == {key: [event["event_id"] for event in session] for key, session in expected.items()}
    assert tables(result) == full_build(result, tmp_path)


class NightlyTables(NamedTuple):
    """Tables of a shop before and after a build with late events.

    Attributes:
        before: Tables before the late events.
        live: Live sessions before the build.
        reopened: Keys of the sessions that the build reopened.
        recounted: Days whose KPIs the build counted again.
        after: Tables after the build.
        live_after: Live sessions after the build.
        reopened_without_events: Keys of the sessions that a second build without new events reopened.
        full_build: Tables after a full build.
    """

    before: dict[str, list[dict[str, Any]]]
    live: list[dict[str, Any]]
    reopened: set[str]
    recounted: set[date]
    after: dict[str, list[dict[str, Any]]]
    live_after: list[dict[str, Any]]
    reopened_without_events: set[str]
    full_build: dict[str, list[dict[str, Any]]]

    def sessions(self, client: str) -> list[dict[str, Any]]:
        return [row for row in self.after["fct_sessions"] if client in (row["client_id"], row["session_id"])]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> NightlyTables:
    joins, renamed, quiet = {"client_id": "joins"}, {"client_id": "renamed"}, {"client_id": "quiet"}
    given_session, closed, twice = {"session_id": "given"}, {"session_id": "closed"}, {"client_id": "twice"}
    first = [
        *(event(f"join-{minute}", minute, **joins) for minute in (0, 10, 50, 60, 600, 601)),
        *(event(f"renamed-{minute}", minute, **renamed) for minute in (10, 11)),
        *(event(f"given-{minute}", minute, **given_session) for minute in (1, 2)),
        *(event(f"closed-{minute}", minute, **closed) for minute in (1, 2)),
        *(event(f"quiet-{minute}", minute, **quiet) for minute in (1, 2)),
        event("twice-2", 0, **twice, product_id="p"),
        event("twice-3", 5, **twice),
        *(event(f"regular-{day}", day * DAY, client_id="regular") for day in (2, 4)),
        event("shared-1", 1, session_id="shared", client_id="ann"),
        event("shared-2", 2, session_id="shared"),
        event("split-1", 1, session_id="split", client_id="ann"),
        event("split-2", 2, session_id="split", client_id="bob"),
        event("ordered", 5 * DAY, "purchase", session_id="ordered", price=3, transaction_id="o1"),
        event("elsewhere", 6 * DAY, session_id="elsewhere"),
    ]
    late = [
        event("join-late", 30, **joins),
        event("renamed-late", 0, **renamed),
        event("given-late", 0, "purchase", **given_session, price=3, transaction_id="o1", product_id="ordered"),
        event("regular-late", DAY, client_id="regular"),
        event("twice-1", 0, **twice, product_id="p"),
        event("new", 0, client_id="new"),
        event("shared-late", 0, session_id="shared", client_id="bob"),
        event("split-late", 0, session_id="split", client_id="cid"),
    ]
    folder = tmp_path_factory.mktemp("night")
    shop = connect(folder, first)
    before = build(shop, folder, *MODELS)
    tables_before = tables(before)
    arrive(shop, folder, late)
    live = before.rows("from staging.live_sessions")
    after = build(shop, folder)
    assert after.code == 0, after.output
    reopened, tables_after = reopened_sessions(after), tables(after)
    live_after = after.rows("from staging.live_sessions")
    recounted = {row["day"] for row in after.rows("from intermediate.int_kpi_days")}
    quiet_build = build(shop, folder, *MODELS)
    assert tables(quiet_build) == tables_after
    full_tables = full_build(quiet_build, folder)
    return NightlyTables(
        tables_before, live, reopened, recounted, tables_after, live_after, reopened_sessions(quiet_build), full_tables
    )


def test_only_sessions_with_new_events_are_reopened(night: NightlyTables) -> None:
    cut = {key.rsplit(":", 1)[0] for key in night.reopened if "client:" not in key}
    assert cut == {"shop:joins", "shop:renamed", "shop", "shop:twice", "shop:new", "shop:regular"}
    split = {"shared:client:ann", "shared:client:bob", *(f"split:client:{name}" for name in ("ann", "bob", "cid"))}
    assert {key for key in night.reopened if "client:" in key} == {f"shop:{key}" for key in split}
    assert {"shop:given", "shop:shared"} <= night.reopened
    assert len(night.reopened) == 7 + len(split)
    assert night.reopened_without_events == set()


def test_only_days_with_reopened_sessions_are_counted_again(night: NightlyTables) -> None:
    late, lost_its_first_client, lost_its_order = (1, 2), 3, 6
    assert night.recounted == {date(2024, 1, day) for day in (*late, lost_its_first_client, lost_its_order)}


def test_an_incremental_build_equals_a_full_build(night: NightlyTables) -> None:
    assert night.after == night.full_build
    assert night.after != night.before


def test_a_late_event_merges_two_sessions(night: NightlyTables) -> None:
    assert [row["event_count"] for row in night.sessions("joins")] == [5, 2]


def test_an_event_before_the_start_of_a_session_changes_its_key(night: NightlyTables) -> None:
    (session,) = night.sessions("renamed")
    assert (session["started_at"], session["event_count"]) == (TEN, 3)


def test_a_late_purchase_removes_intent_examples(night: NightlyTables) -> None:
    assert any(row["session_key"] == "shop:given" for row in night.before["intent_examples"])
    assert not any(row["session_key"] == "shop:given" for row in night.after["intent_examples"])


def test_a_late_event_of_another_client_splits_the_session(night: NightlyTables) -> None:
    (whole,) = (row for row in night.before["fct_sessions"] if row["session_id"] == "shared")
    assert (whole["session_key"], whole["client_id"], whole["event_count"]) == ("shop:shared", "ann", 2)
    parts = {row["session_key"]: row["event_count"] for row in night.sessions("shared")}
    assert parts == {"shop:shared:client:ann": 1, "shop:shared:client:bob": 1, "shop:shared": 1}


def test_a_duplicate_in_a_file_with_an_earlier_name_replaces_the_first_event(night: NightlyTables) -> None:
    events = [row["event_id"] for row in night.after["fct_session_events"] if row["client_id"] == "twice"]
    assert events == ["twice-1", "twice-3"]


def test_live_sessions_include_events_that_are_not_built_yet(night: NightlyTables) -> None:
    assert {row["session_key"] for row in night.live} == night.reopened
    columns = night.live[0].keys()
    built = [{name: row.get(name, row[name]) for name in columns} for row in night.after["fct_sessions"]]
    assert all(row in built for row in night.live)
    assert night.live_after == []


def test_data_tests_read_changed_rows_and_every_row_on_demand(tmp_path: Path) -> None:
    shop = connect(tmp_path, [event("old-1", 1, session_id="old"), event("old-2", 2, session_id="old")])
    build(shop, tmp_path, *PARTIAL_BUILD)
    with shop.transaction() as transaction:
        transaction.execute("create table intermediate.int_loads_built as select load_id from raw.loads")
    arrive(shop, tmp_path, [event("new-1", 1, session_id="new"), event("new-2", 2, session_id="new")])
    build(shop, tmp_path, *PARTIAL_BUILD)
    with shop.transaction() as transaction:
        transaction.execute("update marts.fct_session_events set position = 9 where position = 2")
    contiguous = ("--select", "contiguous_from_one_fct_session_events_position__session_key")
    for variables, failures in (((), 1), (("--vars", "check: all"), 2)):
        (result,) = dbt.read_results(build(shop, tmp_path, *contiguous, *variables).target)
        assert result.failures == failures


def test_the_next_build_completes_an_interrupted_build(tmp_path: Path) -> None:
    first = [event(f"e{minute}", minute, client_id="ann") for minute in (0, 10, 50, 60)]
    first.append(event("given", 0, session_id="shared", client_id="ann"))
    shop = connect(tmp_path, first)
    build(shop, tmp_path, *MODELS)
    split = event("other", 1, session_id="shared", client_id="bob")
    arrive(shop, tmp_path, [event("late", 30, client_id="ann"), split])
    stopped = build(shop, tmp_path, *PARTIAL_BUILD)
    assert stopped.code == 0, stopped.output
    assert len(stopped.rows("from marts.fct_sessions")) == 3
    arrive(shop, tmp_path, [event("more", 85, client_id="ann"), event("nobody", 2, session_id="shared")])
    result = build(shop, tmp_path, *MODELS)
    assert [row["event_count"] for row in tables(result)["fct_sessions"]] == [6, 1, 1, 1]
    assert tables(result) == full_build(result, tmp_path)


def test_the_next_build_completes_an_interrupted_full_build(tmp_path: Path) -> None:
    events = shop_events(4)
    shop = connect(tmp_path, events[:200])
    build(shop, tmp_path, *MODELS)
    arrive(shop, tmp_path, events[200:])
    grown = build(shop, tmp_path, *MODELS)
    expected, digest = tables(grown), dbt.manifest_digest(grown.target)
    with shop.transaction() as transaction:
        transaction.execute("delete from marts.fct_sessions")
    build(shop, tmp_path, *PARTIAL_BUILD, "--full-refresh")
    finished = build(shop, tmp_path, *MODELS)
    assert tables(finished) == expected
    assert dbt.manifest_digest(finished.target) == digest


def test_tables_of_an_earlier_version_are_rebuilt_on_demand(tmp_path: Path) -> None:
    shop = connect(tmp_path, [event("first", 1, session_id="s")])
    expected = tables(build(shop, tmp_path, *MODELS))
    with shop.transaction() as transaction:
        transaction.execute("alter table marts.fct_session_events drop column source_line")
        transaction.execute("alter table marts.fct_session_events drop column source_file")
    (failed,) = [node for node in dbt.read_results(build(shop, tmp_path, *MODELS).target) if node.failed]
    assert failed.name == "int_loads_pending"
    assert "ingestion/hourly -p full_refresh=true" in failed.message
    assert tables(build(shop, tmp_path, *MODELS, "--full-refresh")) == expected
