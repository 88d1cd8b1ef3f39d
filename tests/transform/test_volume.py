"""Every day is compared with the days before it. Unusual days fail an expectation, and real shops pass."""

import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from boat import quality, raw_log, warehouse
from boat.errors import QualityError
from expectations import SILENCE, raw_events, suites
from expectations.no_rows import ExpectNoRows
from tests.transform.conftest import Build, Event, build, connect

pytestmark = pytest.mark.filterwarnings("ignore:`schema_name` is deprecated:DeprecationWarning")

FIRST, DAYS = datetime(2024, 3, 1), 36
NEWEST_COMPLETE = DAYS - 2


def events_of_day(
    shop: str, number: int, pageviews: int = 60, details: int = 40, adds: int = 25, ids: str = "p"
) -> list[Event]:
    kinds = ["pageview"] * pageviews + ["detail"] * details + ["add"] * adds
    start = FIRST + timedelta(days=number, hours=8)
    return [
        {
            "shop": shop,
            "event_id": f"{number}-{index}",
            "session_id": f"{number}-{index // 5}",
            "event_time": (start + timedelta(seconds=index)).isoformat(),
            "event_type": kind,
            "url": "/",
            **({} if kind == "pageview" else {"product_id": f"{ids}{index % 30}"}),
        }
        for index, kind in enumerate(kinds)
    ]


def events_of_shop(name: str, unusual: list[Event], days: int = DAYS, closed: Collection[int] = ()) -> list[Event]:
    """Return regular days, `unusual` as the newest complete day, and the first events of the next day."""
    newest = days - 2
    regular = [event for number in range(newest) if number not in closed for event in events_of_day(name, number)]
    return [*regular, *unusual, *events_of_day(name, days - 1, 5, 0, 0)]


def events() -> list[Event]:
    closing = {day for day in range(DAYS) if day % 7 == NEWEST_COMPLETE % 7}
    return [
        *events_of_shop("healthy", events_of_day("healthy", NEWEST_COMPLETE)),
        *events_of_shop("empty", []),
        *events_of_shop("collapsed", events_of_day("collapsed", NEWEST_COMPLETE, 10, 5, 3)),
        *events_of_shop("halved", events_of_day("halved", NEWEST_COMPLETE, 24, 16, 10)),
        *events_of_shop("without products", events_of_day("without products", NEWEST_COMPLETE, 125, 0, 0)),
        *events_of_shop("without adds", events_of_day("without adds", NEWEST_COMPLETE, 75, 50, 0)),
        *events_of_shop("new ids", events_of_day("new ids", NEWEST_COMPLETE, ids="sku-")),
        *events_of_shop("closed once a week", [], closed=closing),
        *events_of_shop("young", [], days=6),
        *events_of_day("one day", 0),
    ]


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("volume")
    result = build(connect(folder, events()), folder, "--select", "resource_type:model")
    assert result.code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("rule", "severity", "failing"),
    [
        ("fifth or more of the events of the days before", "critical", {"collapsed"}),
        ("fifth or more of the product events of the days before", "critical", {"collapsed"}),
        ("fifth or more of the events of the days before, in the other shops", "warning", {"empty"}),
        (
            "fifth or more of the product events of the days before, in the other shops",
            "warning",
            {"empty", "without products"},
        ),
        ("between half and three times", "warning", {"empty", "collapsed", "halved"}),
        ("similar shares", "warning", {"without products"}),
        ("Every event type of all days before", "warning", {"without products", "without adds"}),
        ("Most products", "warning", {"new ids"}),
    ],
)
def test_each_rule_fails_only_for_its_shops(shops: Build, rule: str, severity: str, failing: set[str]) -> None:
    (suite,) = [suite for suite in suites("collapsed") if suite.name == "marts.daily_volume"]
    (expectation,) = [
        candidate
        for candidate in suite.expectations
        if (candidate.description.endswith(rule) if "fifth" in rule else rule in candidate.description)
    ]
    query = expectation.unexpected_rows_query.format(batch="marts.daily_volume")
    assert {row["shop"] for row in shops.rows(query)} == failing
    assert expectation.severity == severity


def test_a_collapsed_day_of_the_shop_fails_and_one_of_another_shop_does_not(shops: Build, tmp_path: Path) -> None:
    volume = [suite for suite in suites("collapsed") if suite.name == "marts.daily_volume"]
    report = quality.check(shops.warehouse, volume, tmp_path)
    with pytest.raises(QualityError, match="newest complete day has a fifth or more of the events"):
        quality.raise_for(report)
    (outcome,) = quality.history(tmp_path)
    assert (outcome.critical, outcome.warning, outcome.passed) == (2, 6, 0)
    healthy_volume = [suite for suite in suites("it's {healthy}") if suite.name == "marts.daily_volume"]
    quality.raise_for(quality.check(shops.warehouse, healthy_volume, tmp_path))


def test_a_shop_that_went_silent_is_reported_and_a_replay_of_old_files_is_not(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    received = {"silent": now - timedelta(days=3), "alive": now, "replayed": now - timedelta(days=90), "file": None}
    lines = [
        {
            "shop": shop,
            "event_id": str(number),
            "session_id": "s",
            "event_time": (moment or FIRST).isoformat(),
            "event_type": "pageview",
            **({"received_at": moment.isoformat()} if moment else {}),
        }
        for shop, moment in received.items()
        for number in range(500)
    ]
    skewed = [
        line | {"shop": "skewed", "event_time": (now + timedelta(hours=5)).isoformat()}
        for line in lines
        if line["shop"] == "alive"
    ]
    loaded = connect(tmp_path, lines + skewed)
    with loaded.transaction() as transaction:
        # Earlier versions accepted such times.
        transaction.execute("update raw.events set event_time = received_at + interval 5 hour where shop = 'skewed'")
        for own, silent in {"silent": {"silent"}, "alive": set(), "replayed": set(), "file": set()}.items():
            failing = {}
            for expectation in raw_events.suite(own).expectations:
                if type(expectation) is ExpectNoRows:
                    assert expectation.severity == "warning"
                    rows = transaction.query(expectation.unexpected_rows_query.format(batch="raw.events")).to_pylist()
                    failing[expectation.description == SILENCE] = {row["shop"] for row in rows}
            assert failing == {True: silent, False: {"skewed"}}


def test_sessions_that_are_too_short_are_reported_by_their_mean(shops: Build, tmp_path: Path) -> None:
    file = tmp_path / "spoilt.duckdb"
    shutil.copy(shops.target.parent / "warehouse.duckdb", file)
    spoilt = warehouse.connect(f"duckdb:///{file}")
    with spoilt.transaction() as transaction:
        transaction.execute("update marts.fct_sessions set event_count = 1 where shop = 'healthy'")
    (suite,) = [suite for suite in suites() if suite.name == "marts.fct_sessions"]
    report = quality.check(spoilt, [suite], tmp_path / "reports")
    (check,) = report.where("failed", "warning")
    assert check.expectation == "The mean session of each shop has 1.5 to 50 events"
    assert check.failing_rows == 1
    with spoilt.transaction() as transaction:
        transaction.execute("update marts.fct_sessions set add_count = -1 where shop = 'young'")
    report = quality.check(spoilt, [suite], tmp_path / "reports")
    assert [check.column for check in report.where("failed")] == ["add_count"]


@pytest.mark.parametrize("name", ["serenade_bol", pytest.param("eshop2008", marks=pytest.mark.soak)])
def test_real_shops_pass(public_data: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    loaded = warehouse.connect(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")
    raw_log.load(loaded, public_data(name) / "events.parquet")
    built = build(loaded, tmp_path, "--select", "resource_type:model")
    report = quality.check(loaded, [suite for suite in suites() if suite.name == "marts.daily_volume"], tmp_path)
    assert report.count() == {"passed": 8}
    # The rule would not have failed on any earlier day. The last day of the data is incomplete.
    flagged = built.rows(
        """select day from marts.daily_volume where expected_events >= 50 and events < 0.2 * expected_events
        and day < (select max(day) from marts.daily_volume)"""
    )
    assert flagged == []
