"""The synthetic shop: the same seed gives the same bytes, memory is constant, and behaviour can be learned."""

import hashlib
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from boat import raw_log, synthetic
from boat.__main__ import main
from boat.errors import SettingError
from boat.warehouse import connect

END = date(2024, 6, 30)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the shop of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    synthetic.generate(folder, sessions=20_000, days=28, seed=1, products=2_000, end=END)
    return folder


@pytest.fixture(scope="module")
def events(demo: Path) -> duckdb.DuckDBPyConnection:
    """Create tables: browsing rows `e` (without an action: ''), searches `s`, catalogue `c` and names `n`."""
    connection = duckdb.connect()
    for table, name in (
        ("s", "search_train"),
        ("c", "sku_to_content"),
        ("n", "product_names"),
        ("b", "browsing_train"),
    ):
        connection.execute(f"create table {table} as from read_csv('{demo}/{name}.csv', all_varchar = true)")
    connection.execute(
        """create table e as select session_id_hash as session, event_type, coalesce(product_action, '') as action,
        product_sku_hash as sku, cast(server_timestamp_epoch_ms as bigint) as time, hashed_url as url from b"""
    )
    return connection


def numbers(events: duckdb.DuckDBPyConnection, sql: str) -> tuple[float, ...]:
    row = events.execute(sql).fetchone()
    assert row is not None
    return tuple(float(number) for number in row)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    options = ["--sessions", "11000", "--days", "9", "--seed", "7", "--products", "100", "--end", "2024-06-30"]
    command = [sys.executable, "-m", "boat", "synth", "--out", str(tmp_path / "there"), *options]
    subprocess.run(command, check=True, timeout=60)
    synthetic.generate(tmp_path / "here", sessions=11_000, days=9, seed=7, products=100, end=END)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")
    assert len(digests(tmp_path / "here")) == 4


def test_another_seed_gives_another_shop(tmp_path: Path) -> None:
    for seed in (1, 2):
        synthetic.generate(tmp_path / str(seed), sessions=50, days=2, seed=seed, products=60, end=END)
    first, second = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert all(first[name] != second[name] for name in first)


def test_a_detail_has_a_page_view_of_the_same_page_and_time(events: duckdb.DuckDBPyConnection) -> None:
    (lonely,) = numbers(
        events,
        """select count(*) from e as d where action = 'detail' and not exists (from e as p
        where p.action = '' and p.session = d.session and p.url = d.url and p.time = d.time)""",
    )
    assert lonely == 0


def test_rows_are_sorted_by_session_and_not_by_time(events: duckdb.DuckDBPyConnection) -> None:
    backwards, same_session = numbers(
        events,
        """select avg(cast(time < before as integer)) filter (session = other), avg(cast(session = other as integer))
        from (select session, time, lag(time) over () as before, lag(session) over () as other from e)""",
    )
    assert backwards > 0.05
    assert same_session > 0.5


def test_every_product_has_a_unique_readable_name(events: duckdb.DuckDBPyConnection) -> None:
    assert numbers(events, "select count(distinct product_name), count(*) from n") == (2_000, 2_000)
    names = events.execute(
        r"select count(*) from n where not regexp_matches(product_name, '^[A-Z][a-z]+ [a-z]+ .+, [a-z]+')"
    )
    assert names.fetchone() == (0,)


def test_products_go_on_sale_over_time(events: duckdb.DuckDBPyConnection) -> None:
    (late,) = numbers(
        events,
        """select avg(cast(first > (select min(time) from e) + 14 * 86400000 as integer))
        from (select min(time) as first from e where sku is not null group by sku)""",
    )
    assert 0.08 < late < 0.4


def test_earlier_successors_predict_much_better_than_popularity(events: duckdb.DuckDBPyConnection) -> None:
    popular, co_occurrence = numbers(
        events,
        """with views as (
            select sku, lead(sku) over (partition by session order by time) as next,
                time >= (select max(time) from e) - 4 * 86400000 as test from e where action = 'detail'),
        follows as (select sku, next, row_number() over (partition by sku order by count(*) desc, next) as rank
            from views where not test and next is not null group by sku, next),
        favourites as (
            select sku, row_number() over (order by count(*) desc) as rank from views where not test group by sku)
        select count(favourites.rank) filter (favourites.rank <= 10) / count(*),
            count(follows.rank) filter (follows.rank <= 10) / count(*)
        from views left join follows using (sku, next) left join favourites on favourites.sku = views.next
        where test and next is not null""",
    )
    assert popular > 0
    assert co_occurrence > 5 * popular
    assert co_occurrence < 0.8, "too easy to tell models apart"


def test_shoppers_who_add_and_continue_buy_more_often(events: duckdb.DuckDBPyConnection) -> None:
    looked_on, stopped, without = numbers(
        events,
        """with s as (select session, max(time) filter (action = 'add') as added,
            max(time) filter (action = 'detail') as seen,
            max(cast(action = 'purchase' as integer)) as bought from e group by session)
        select avg(bought) filter (added is not null and seen > added), avg(bought) filter (seen <= added),
            avg(bought) filter (added is null) from s""",
    )
    assert without == 0
    assert stopped < 0.7 * looked_on
    assert looked_on < 0.5


def test_memory_does_not_grow_with_the_sessions(tmp_path: Path) -> None:
    script = """
import pathlib, resource, sys
from boat import synthetic
synthetic.generate(pathlib.Path(sys.argv[1]), sessions=int(sys.argv[2]), days=7, seed=1, products=500)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    small, large = (
        int(subprocess.check_output([sys.executable, "-c", script, str(tmp_path), str(sessions)], timeout=120))
        for sessions in (20_000, 160_000)
    )
    assert large < small * 1.15


def test_the_demo_shop_is_written_and_loaded_in_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert main(["synth", "--out", str(tmp_path / "shop"), "--sessions", "20000", "--days", "28", "--seed", "1"]) == 0
    assert time.monotonic() - started < 10
    assert "20000 sessions, 2000 products" in capsys.readouterr().out
    warehouse = connect(f"duckdb:///{tmp_path / 'w.duckdb'}")
    report = raw_log.load(warehouse, tmp_path / "shop")
    assert [file.kind for file in report.files] == ["coveo_browsing", "coveo_search", "coveo_catalogue"]
    assert 0 < report.duplicate < 200
    with warehouse.transaction() as transaction:
        (span,) = transaction.query(
            "select min(event_time) as first, max(event_time) as last from raw.events"
        ).to_pylist()
        (names,) = transaction.query("select count(product_name) as n from raw.products").to_pylist()
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert span["first"].date() == yesterday - timedelta(days=27)
    assert span["last"].date() - yesterday <= timedelta(days=1)
    assert names == {"n": 2_000}


@pytest.mark.parametrize(("name", "value"), [("sessions", 0), ("days", 0), ("products", 3), ("seed", -1)])
def test_a_shop_that_is_too_small_is_refused(tmp_path: Path, name: str, value: int) -> None:
    numbers = {"sessions": 10, "days": 2, "seed": 1, "products": 60, name: value}
    with pytest.raises(SettingError, match=f"{name}={value}"):
        synthetic.generate(tmp_path, **numbers)
    assert not list(tmp_path.iterdir())
