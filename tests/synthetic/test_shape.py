"""The synthetic shop has the shape of the real one of the Coveo Data Challenge. Each known figure is tested."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import pytest

from boat import synthetic

SESSIONS, DAYS, PRODUCTS = 250_000, 90, 20_000
END = date(2024, 6, 30)

# The value of the real shop, and the tolerance for a shop of this size.
SHAPE: dict[str, tuple[float, float]] = {
    "page views": (0.711, 0.02),
    "details of product events": (0.9306, 0.012),
    "adds of product events": (0.0316, 0.006),
    "removes of product events": (0.0303, 0.006),
    "purchases of product events": (0.0075, 0.001),
    "sessions with a detail": (0.661, 0.01),
    "sessions with an add": (0.0435, 0.004),
    "sessions with a remove": (0.0116, 0.0012),
    "sessions with a purchase": (0.0108, 0.002),
    "events a session, mean": (7.31, 0.3),
    "events a session, standard deviation": (12.3, 0.6),
    "events a session, median": (3, 0),
    "events a session, 75 %": (8, 0),
    "events a session, 90 %": (17, 1),
    "events a session, 95 %": (27, 1),
    "events a session, 99 %": (60, 2),
    "events a session, most": (206, 20),
    "sessions of one event": (0.188, 0.005),
    "minutes a session, median": (0.37, 0.02),
    "minutes a session, 90 %": (10.3, 1.5),
    "minutes a session, 99 %": (39.5, 6),
    "the same product twice in a row": (0.130, 0.01),
    "popularity, Gini": (0.885, 0.06),
    "popularity, top 1 %": (0.347, 0.03),
    "popularity, top 10 %": (0.817, 0.05),
    "popularity, the top one": (0.0173, 0.003),
    **{
        f"products first seen in week {week}": (share, 0.017 if week > 1 else 0.03)
        for week, share in enumerate(
            [0.41, 0.106, 0.065, 0.049, 0.055, 0.049, 0.040, 0.045, 0.035, 0.032, 0.029, 0.032, 0.052], 1
        )
    },
    "product events of the last month whose product is unseen": (0.067, 0.02),
    "products with catalogue fields": (0.48, 0.015),
    "products with an image": (0.43, 0.015),
    "categories": (173, 0),
    "top categories": (9, 0),
    "category levels, most": (3, 0),
    "price buckets": (10, 0),
    "price buckets, most frequent": (0.1, 0.01),
    "description norm, least": (0.57, 0.005),
    "description norm, greatest": (0.67, 0.005),
    "query norm, least": (0.30, 0.05),
    "query norm, greatest": (0.84, 0.05),
    "image norm, least": (308, 3),
    "image norm, greatest": (570, 3),
    "description and query of a clicked product, cosine": (1, 0.1),
    "sessions with a search": (0.11, 0.01),
    "searches a session that has any": (1.49, 0.05),
    "searches with results": (0.735, 0.01),
    "results, fewest": (3, 1),
    "results, most": (25, 3),
    "results with a click": (0.298, 0.015),
    "buying after an add": (0.21, 0.03),
    "buying where nothing follows the add": (0.05, 0.02),
    "buying where two to ten events follow the add": (0.24, 0.03),
    "days": (90, 0),
    "events of the first days to the last": (830 / 280, 0.5),
    "days of outage": (2, 0),
    "exact duplicates": (1_800 / 36_079_307, 3e-5),
    "sessions with a gap of more than half an hour": (0.005, 0.003),
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, float]]:
    folder = tmp_path_factory.mktemp("shape")
    synthetic.generate(folder, SESSIONS, DAYS, seed=1, products=PRODUCTS, end=END)
    with duckdb.connect(config={"threads": 2}) as shop:
        _read(shop, folder)
        parts = (_events, _sessions, _products, _time, _carts, _catalogue, _searches)
        yield {name: figure for part in parts for name, figure in part(shop)}


@pytest.mark.parametrize("figure", SHAPE)
def test_a_figure_is_near_that_of_the_real_shop(figures: dict[str, float], figure: str) -> None:
    expected, tolerance = SHAPE[figure]
    assert figures[figure] == pytest.approx(expected, abs=tolerance)


Figures = Iterator[tuple[str, float]]


def _read(shop: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Create tables: browsing rows `e` (without an action: ''), sessions `s`, searches `q` and catalogue `c`."""
    for table, name in (("q", "search_train"), ("c", "sku_to_content")):
        shop.execute(f"create table {table} as from read_csv('{folder}/{name}.csv', all_varchar = true)")
    shop.execute(
        f"""create table e as select session_id_hash as session, event_type, coalesce(product_action, '') as action,
        product_sku_hash as sku, cast(server_timestamp_epoch_ms as bigint) as time, hashed_url as url
        from read_csv('{folder}/browsing_train.csv', all_varchar = true)"""
    )
    shop.execute(
        """create table s as select session, count(*) as n, min(time) as opened, max(time) as closed,
        max(action = 'detail') as looks, max(action = 'add') as adds, max(action = 'remove') as removes,
        max(action = 'purchase') as buys from e group by session"""
    )


def _row(shop: duckdb.DuckDBPyConnection, sql: str) -> list[float]:
    return [float(number) for number in shop.execute(sql).fetchall()[0]]


def _named(names: list[str], shop: duckdb.DuckDBPyConnection, sql: str) -> Figures:
    yield from zip(names, _row(shop, sql), strict=True)


def _events(shop: duckdb.DuckDBPyConnection) -> Figures:
    yield "page views", _row(shop, "select avg(cast(event_type = 'pageview' as int)) from e")[0]
    actions = {"detail": "details", "add": "adds", "remove": "removes", "purchase": "purchases"}
    shares = ", ".join(f"avg(cast(action = '{action}' as int))" for action in actions)
    names = [f"{name} of product events" for name in actions.values()]
    yield from _named(names, shop, f"select {shares} from e where action <> ''")
    repeats = "select sku, lag(sku) over (partition by session order by time) as before from e where sku is not null"
    again = _row(shop, f"select avg(coalesce(cast(sku = before as int), 0)) from ({repeats})")
    yield "the same product twice in a row", again[0]
    yield "exact duplicates", _row(shop, "select 1 - count(distinct hash(e)) / count(*) from e")[0]


def _sessions(shop: duckdb.DuckDBPyConnection) -> Figures:
    kinds = {"looks": "a detail", "adds": "an add", "removes": "a remove", "buys": "a purchase"}
    shares = ", ".join(f"avg(cast({column} as int))" for column in kinds)
    yield from _named([f"sessions with {name}" for name in kinds.values()], shop, f"select {shares} from s")
    points = {"median": 0.5, "75 %": 0.75, "90 %": 0.9, "95 %": 0.95, "99 %": 0.99}
    quantiles = ", ".join(f"quantile_cont(n, {point})" for point in points.values())
    names = ["mean", "standard deviation", *points, "most"]
    sql = f"select avg(n), stddev(n), {quantiles}, max(n) from s"
    yield from _named([f"events a session, {name}" for name in names], shop, sql)
    yield "sessions of one event", _row(shop, "select avg(cast(n = 1 as int)) from s")[0]
    points = {"median": 0.5, "90 %": 0.9, "99 %": 0.99}
    quantiles = ", ".join(f"quantile_cont((closed - opened) / 60000, {point})" for point in points.values())
    yield from _named([f"minutes a session, {name}" for name in points], shop, f"select {quantiles} from s")
    gaps = "select session, time - lag(time) over (partition by session order by time) as gap from e"
    silent = _row(shop, f"select count(distinct session) / {SESSIONS} from ({gaps}) where gap > 30 * 60 * 1000")
    yield "sessions with a gap of more than half an hour", silent[0]


def _products(shop: duckdb.DuckDBPyConnection) -> Figures:
    names = ["Gini", "top 10 %", "top 1 %", "the top one"]
    yield from _named(
        [f"popularity, {name}" for name in names],
        shop,
        """with p as (select count(*) as n from e where sku is not null group by sku),
        r as (select n, row_number() over (order by n) as i, count(*) over () as c, sum(n) over () as t from p)
        select 2 * sum(i * n) / (any_value(c) * any_value(t)) - (any_value(c) + 1) / any_value(c),
            sum(n) filter (i > .9 * c) / any_value(t), sum(n) filter (i > .99 * c) / any_value(t),
            max(n) / any_value(t) from r""",
    )
    shop.execute("create table f as select sku, min(time) as first from e where sku is not null group by sku")
    week = 7 * 86_400_000
    weeks = shop.execute(
        f"""select 1 + (first - (select min(time) from e)) // {week} as week, count(*) / sum(count(*)) over ()
        from f group by week"""
    ).fetchall()
    yield from ((f"products first seen in week {number}", share) for number, share in weeks)
    month = f"(select max(time) - 30 * cast({week // 7} as bigint) from e)"
    unseen = _row(shop, f"select avg(cast(first >= {month} as int)) from e join f using (sku) where time >= {month}")
    yield "product events of the last month whose product is unseen", unseen[0]


def _time(shop: duckdb.DuckDBPyConnection) -> Figures:
    # Sessions that end after the last midnight do not count as a further day.
    rows = shop.execute(
        """select opened // 86400000 as day, sum(n) as events from s group by day order by day"""
    ).fetchall()
    volume = {int(day): int(events) for day, events in rows}
    every = [volume.get(day, 0) for day in range(min(volume), max(volume) + 1)]
    yield "days", len(every)
    yield "events of the first days to the last", sum(every[:5]) / sum(every[-5:])
    yield "days of outage", sum(events == 0 for events in every)


def _carts(shop: duckdb.DuckDBPyConnection) -> Figures:
    yield from _named(
        [f"buying {when}" for when in (
            "after an add", "where nothing follows the add", "where two to ten events follow the add",
        )],
        shop,
        """with added as (select session, min(time) as added_at from e where action = 'add' group by session),
        carts as (select session, count(*) filter (time > added_at and action <> 'purchase') as further,
            max(cast(action = 'purchase' as int)) as bought from e join added using (session) group by session)
        select avg(bought), avg(bought) filter (further = 0), avg(bought) filter (further between 2 and 10)
        from carts""",
    )  # fmt: skip


def _catalogue(shop: duckdb.DuckDBPyConnection) -> Figures:
    yield from _named(
        ["products with catalogue fields", "products with an image", "categories", "top categories",
         "category levels, most", "price buckets"],
        shop,
        """select count(description_vector) / count(*), count(image_vector) / count(*), count(distinct category_hash),
        count(distinct split_part(category_hash, '/', 1)), max(len(split(category_hash, '/'))),
        count(distinct price_bucket) from c""",
    )  # fmt: skip
    buckets = "select count(*) as n from c where price_bucket is not null group by price_bucket"
    yield "price buckets, most frequent", _row(shop, f"select max(n) / sum(n) from ({buckets})")[0]
    for kind in ("description", "image"):
        norms = f"select {_norm(f'{kind}_vector')} as norm from c where {kind}_vector is not null"
        yield from _named(
            [f"{kind} norm, least", f"{kind} norm, greatest"], shop, f"select min(norm), max(norm) from ({norms})"
        )


def _norm(vector: str) -> str:
    return f"sqrt(list_inner_product(cast({vector} as double[]), cast({vector} as double[])))"


def _searches(shop: duckdb.DuckDBPyConnection) -> Figures:
    yield from _named(
        ["sessions with a search", "searches a session that has any", "searches with results", "results with a click"],
        shop,
        f"""select count(distinct session_id_hash) / {SESSIONS}, count(*) / count(distinct session_id_hash),
        count(product_skus_hash) / count(*), count(clicked_skus_hash) / count(product_skus_hash) from q""",
    )
    sizes = "select len(split(product_skus_hash, ',')) as n from q where product_skus_hash is not null"
    yield from _named(["results, fewest", "results, most"], shop, f"select min(n), max(n) from ({sizes})")
    norms = f"select {_norm('query_vector')} as norm from q"
    extremes = "quantile_cont(norm, 0.001), quantile_cont(norm, 0.999)"
    yield from _named(["query norm, least", "query norm, greatest"], shop, f"select {extremes} from ({norms})")
    alike = _row(
        shop,
        """select avg(list_cosine_similarity(cast(query_vector as double[]), cast(description_vector as double[])))
        from q join c on c.product_sku_hash = regexp_extract(q.clicked_skus_hash, '[0-9a-f]{64}')
        where c.description_vector is not null""",
    )
    yield "description and query of a clicked product, cosine", alike[0]
