"""The dbt project gives the same tables as its rules in Python, and errors name the failed node."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from boat import raw_log, warehouse
from boat.errors import TransformError
from boat.models.examples import Sessions
from boat.models.sessions import instances
from boat.recommend import training
from boat.recommend.graph import RecommendGraph
from boat.recommend.scores import PopularScores
from boat.transform import dbt
from tests.transform.conftest import PROJECT, Build, Event, build, connect, run, shop_events

FUNNEL = ["pageview", "search", "click", "detail", "add", "remove", "purchase"]


def sessions_in_python(events: list[Event]) -> dict[str, list[Event]]:
    """Return the events of every session by its key, with the rules of the intermediate models in Python.

    Args:
        events: Events in the order of file names and lines.
    """
    first: dict[tuple[Any, ...], Event] = {}
    for number, fired in enumerate(events):
        event = fired | {"event_time": datetime.fromisoformat(fired["event_time"]), "number": number}
        who = (event.get("session_id"), event.get("client_id"))
        piece = number if event["event_type"] in ("purchase", "add", "remove") else None
        first.setdefault((*who, event["event_time"], event["event_type"], event.get("product_id"), piece), event)
    shoppers: dict[str, list[Event]] = defaultdict(list)
    for event in first.values():
        shoppers[event.get("session_id") or event["client_id"]].append(event)
    sessions: dict[str, list[Event]] = {}
    for shopper, shopper_events in shoppers.items():
        shopper_events.sort(key=lambda event: (event["event_time"], FUNNEL.index(event["event_type"]), event["number"]))
        key, previous = f"shop:{shopper}", None
        for event in shopper_events:
            time = event["event_time"]
            if "client_id" in event and (previous is None or time - previous > timedelta(minutes=30)):
                key = f"shop:{shopper}:{int((time - datetime(1970, 1, 1)).total_seconds())}"
            sessions.setdefault(key, []).append(event)
            previous = time
    return sessions


@pytest.fixture(scope="module")
def sessions() -> dict[str, list[Event]]:
    return sessions_in_python(shop_events())


def test_every_model_builds_and_every_test_passes(built: Build) -> None:
    assert built.code == 0, built.output
    results = dbt.read_results(built.target)
    assert dbt.failure(results) is None
    assert {result.status for result in results} == {"success", "pass", "no-op"}
    kinds = [result.resource_type for result in results]
    assert min(kinds.count(kind) for kind in ("model", "test", "unit_test")) >= 9


def test_sessions_equal_the_rules_in_python(built: Build, sessions: dict[str, list[Event]]) -> None:
    rows = built.rows("select session_key, event_id from marts.fct_session_events order by session_key, position")
    built_sessions: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        built_sessions[row["session_key"]].append(row["event_id"])
    assert built_sessions == {key: [event["event_id"] for event in events] for key, events in sessions.items()}


def test_a_session_sums_its_events(built: Build, sessions: dict[str, list[Event]]) -> None:
    for row in built.rows("from marts.fct_sessions"):
        events = sessions[row["session_key"]]
        bought = [event for event in events if event["event_type"] == "purchase"]
        assert row["started_at"] == events[0]["event_time"]
        assert row["event_count"] == len(events)
        assert row["product_count"] == len({event["product_id"] for event in events if "product_id" in event})
        assert row["revenue"] == sum(event["price"] for event in bought)
        assert row["transaction_count"] == len({event["event_time"] for event in bought})
        assert row["is_purchase"] == bool(bought)


def test_the_recommend_examples_are_the_products_without_repeats_in_a_row(
    built: Build, sessions: dict[str, list[Event]]
) -> None:
    expected = {}
    for key, events in sessions.items():
        items = [e["product_id"] for e in events if e["event_type"] in ("detail", "click", "add", "purchase")]
        collapsed = items[:1] + [item for previous, item in pairwise(items) if item != previous]
        if len(collapsed) >= 2:
            expected[key] = collapsed
    built_examples: dict[str, list[str]] = defaultdict(list)
    for row in built.rows("from marts.recommend_examples order by session_key, position"):
        built_examples[row["session_key"]].append(row["product_id"])
    assert built_examples == expected


def test_an_endpoint_computes_the_windows_and_pages_of_the_training(
    built: Build, sessions: dict[str, list[Event]]
) -> None:
    with built.warehouse.transaction() as transaction:
        rows = transaction.query("from marts.recommend_examples order by session_key, position")
    begins = [row for row, position in enumerate(rows["position"].to_pylist()) if position == 1]
    part = Sessions(rows, np.array([*begins, len(rows)]))
    names, frequency = part.vocabulary("product_id")
    shares = (frequency / frequency.sum()).astype(np.float32)
    graph = RecommendGraph(PopularScores(shares), names, shares, window=6)
    learned = training.targets(part, names, with_pages=True).at(slice(None), 6)
    targets = (row for row in rows.to_pylist() if row["position"] > 1)
    differing = Counter[str]()
    for row, recent, page in zip(targets, learned.recent, learned.page, strict=True):
        events = sessions[row["session_key"]]
        target = next(i for i, event in enumerate(events) if _is_target(event, row))
        types, products = (tf.constant([[event.get(name) or "" for event in events[:target]]]) for name in _INPUTS[:2])
        assert graph.windows(types, products)[0].numpy()[0].tolist() == recent.tolist()
        # The page that the shopper was on is at least a second older than the item.
        earlier = [event for event in events[:target] if (row["event_time"] - event["event_time"]).total_seconds() >= 1]
        (instance,) = instances([[{name: event.get(name) or "" for name in _INPUTS} for event in earlier]])
        served = graph.page(*(tf.constant([instance[name]]) for name in _INPUTS)).numpy()[0].decode()
        if page and served != events[target]["url"]:
            assert page == served
            differing["action" if served.startswith(("add:", "remove:", "purchase:")) else "page"] += 1
    assert differing.total() > 100
    assert differing["page"] > 50
    assert differing["action"] > 10


_INPUTS = ("event_type", "product_id", "url")


def _is_target(event: Event, row: dict[str, Any]) -> bool:
    return all(event.get(name) == row[name] for name in ("event_time", "event_type", "product_id"))


def test_the_intent_examples_end_before_the_first_purchase(built: Build, sessions: dict[str, list[Event]]) -> None:
    expected = []
    for key, events in sessions.items():
        bought = min((e["event_time"] for e in events if e["event_type"] == "purchase"), default=datetime.max)
        expected += [(key, e["event_id"], bought < datetime.max) for e in events if e["event_time"] < bought]
    rows = built.rows(
        """select session_key, event_id, is_purchase from marts.intent_examples
        inner join marts.fct_session_events using (session_key, position)"""
    )
    assert sorted(tuple(row.values()) for row in rows) == sorted(expected)
    assert {label for _, _, label in expected} == {True, False}


def test_daily_kpis_add_up_to_the_sessions(built: Build, sessions: dict[str, list[Event]]) -> None:
    days = built.rows("from marts.kpi_daily order by day")
    assert sum(day["sessions"] for day in days) == len(sessions)
    assert sum(day["events"] for day in days) == sum(map(len, sessions.values()))
    first = [events for events in sessions.values() if events[0]["event_time"].date() == days[0]["day"]]
    buying = [events for events in first if any(event["event_type"] == "purchase" for event in events)]
    assert days[0]["conversion_rate"] == pytest.approx(len(buying) / len(first))


def test_marts_and_digest_do_not_depend_on_the_row_order_or_the_database(built: Build, tmp_path: Path) -> None:
    loaded = connect(tmp_path, shop_events(), name="another")
    with loaded.transaction() as transaction:
        transaction.execute("create table shuffled as select * from raw.events order by hash(event_id)")
        transaction.execute("delete from raw.events")
        transaction.execute("insert into raw.events select * from shuffled")
        transaction.execute("drop table shuffled")
    again = build(loaded, tmp_path, "--select", "resource_type:model")
    for table in ("fct_session_events", "fct_sessions", "dim_products", "recommend_examples", "intent_examples"):
        query = f"from marts.{table} order by all"
        assert again.rows(query) == built.rows(query)
    assert dbt.manifest_digest(again.target) == dbt.manifest_digest(built.target)


def test_an_empty_raw_log_builds(tmp_path: Path) -> None:
    loaded = connect(tmp_path, shop_events()[:1])
    with loaded.transaction() as transaction:
        transaction.execute("delete from raw.events")
    assert build(loaded, tmp_path).code == 0


def test_the_newest_catalogue_names_the_products(tmp_path: Path) -> None:
    loaded = connect(tmp_path, shop_events())
    for name, day in (("Mug", "monday"), ("Blue mug", "tuesday")):
        (tmp_path / day).mkdir()
        (tmp_path / day / "products.csv").write_text(f"product_id,product_name\np1,{name}\nunsold,Hat\n")
        raw_log.load(loaded, tmp_path / day)
    result = build(loaded, tmp_path, "--select", "resource_type:model")
    named = result.rows("from marts.dim_products where product_name is not null order by product_id")
    assert [(row["product_id"], row["product_name"]) for row in named] == [("p1", "Blue mug"), ("unsold", "Hat")]
    assert (named[1]["event_count"], named[1]["first_seen_at"]) == (0, None)


def test_a_failing_test_is_named_with_its_rows_and_its_sql(tmp_path: Path) -> None:
    loaded = connect(tmp_path, shop_events())
    with loaded.transaction() as transaction:
        transaction.execute("insert into raw.events select * from raw.events limit 3")
    failed = build(loaded, tmp_path)
    assert failed.code != 0
    results = dbt.read_results(failed.target)
    nodes = {result.name: result for result in results if result.failed}
    node = nodes["unique_together_stg_events_shop__event_id"]
    assert node.failures == 3
    assert "count(*) > 1" in (node.compiled_sql or "")
    error = dbt.failure(results)
    assert isinstance(error, TransformError)
    for part in ("unique_together_stg_events_shop__event_id", "3 failing rows", str(node.compiled_path), node.path):
        assert part in str(error)
    assert Path(str(node.compiled_path)).read_text() == node.compiled_sql
    first = dbt.rows_table(results)[0]
    assert first["status"] == "fail"
    assert "count(*) > 1" in str(first["sql"])


def test_a_broken_rule_fails_its_unit_test_in_plain_text(tmp_path: Path) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    rules = project / "macros/session_rules.sql"
    rules.write_text(rules.read_text().replace("session_gap_minutes') }} * 60", "session_gap_minutes') }} * 59"))
    failed = build(connect(tmp_path, shop_events()), tmp_path, "--select", "+int_events_sessionized", project=project)
    message = str(dbt.failure(dbt.read_results(failed.target)))
    assert "unit test int_events_sessionized.a_silence_of_exactly_the_gap_does_not_cut" in message
    assert "actual differs from expected" in message


def test_a_broken_model_is_named_with_the_error_of_the_warehouse(tmp_path: Path) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    model = project / "models/marts/kpi_daily.sql"
    model.write_text(model.read_text().replace("session_date as day", "no_such_column as day"))
    failed = build(connect(tmp_path, shop_events()), tmp_path, "--select", "resource_type:model", project=project)
    message = str(dbt.failure(dbt.read_results(failed.target)))
    assert "model kpi_daily (models/marts/kpi_daily.sql" in message
    assert "no_such_column" in message


def test_a_changed_rule_changes_the_digest(built: Build, tmp_path: Path) -> None:
    changed = ("--select", "resource_type:model", "--vars", "session_gap_minutes: 20")
    shorter = build(connect(tmp_path, shop_events()), tmp_path, *changed)
    assert dbt.manifest_digest(shorter.target) != dbt.manifest_digest(built.target)


def test_a_run_without_results_names_the_log(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r"run_results\.json.*dbt\.log"):
        dbt.read_results(tmp_path)


def test_a_stale_source_is_reported_with_its_age(tmp_path: Path) -> None:
    loaded = connect(tmp_path, shop_events()[:1])
    for hours, status in ((0, "pass"), (5, "warn"), (30, "error")):
        newest = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=hours)
        with loaded.transaction() as transaction:
            transaction.execute("update raw.loads set loaded_at = ?", [newest])
        freshness = run(loaded, tmp_path, "source", "freshness")
        (source,) = dbt.read_freshness(freshness.target)
        assert (source.source, source.status) == ("raw.loads", status)
        assert source.hours == pytest.approx(hours, abs=0.1)


def test_every_table_is_documented_on_one_page_with_its_dependents(built: Build, tmp_path: Path) -> None:
    page = run(built.warehouse, tmp_path, "docs", "generate", "--static").target / "static_index.html"
    html = page.read_text()
    for part in (
        "cart_sessions",
        "boat_recommend",
        "kpi_report",
        "One row per event, with its position in its session",
    ):
        assert part in html
    manifest = json.loads((tmp_path / "target" / "manifest.json").read_text())
    models = {name for name, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    assert [name for name in models if not manifest["nodes"][name]["description"]] == []
    exposed = {name for node in manifest["exposures"].values() for name in node["depends_on"]["nodes"]}
    assert {"model.boat.recommend_examples", "model.boat.intent_examples", "model.boat.kpi_daily"} <= exposed <= models


def test_real_views_become_sessions(public_data: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = warehouse.connect(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")
    raw_log.load(loaded, public_data("serenade_bol") / "events.parquet")
    result = build(loaded, tmp_path)
    assert result.code == 0, result.output
    (total,) = result.rows("select count(*) as sessions, sum(event_count) as events from marts.fct_sessions")
    (raw,) = result.rows("select count(*) as events, count(distinct session_id) as sessions from raw.events")
    assert (total["sessions"], total["events"]) == (raw["sessions"], raw["events"]) == (24_385, raw["events"])
