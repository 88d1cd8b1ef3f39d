"""Snapshots of small shops. Product p8 always follows p7, and most sessions with an add also buy."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from boat import snapshot, warehouse

FIRST = datetime(2024, 5, 1)

_MARTS = """
create schema marts;
create table marts.fct_session_events as select * from read_parquet('{events}');
create table marts.recommend_examples as
    select session_key, shop, started_at, position, event_time, event_type, product_id, null::varchar as url_before
    from marts.fct_session_events where event_type != 'pageview';
create table marts.intent_examples as select * from marts.fct_session_events where event_type != 'purchase';
create table marts.dim_products as
    select 'shop' as shop, product_id, null::varchar as product_name, null::varchar as category, 1.0 as price,
        description_vector
    from (select distinct product_id from marts.fct_session_events where product_id is not null)
    full join read_parquet('{vectors}') using (product_id);
"""


def _session(number: int, products: int, buyers: bool, draw: np.random.Generator) -> Iterator[dict[str, object]]:
    started = FIRST + timedelta(hours=number)
    item = int(draw.integers(products))
    adds = buyers and draw.random() < 0.3
    types = ["pageview", *["detail"] * int(draw.integers(2, 6)), *(["add"] if adds else [])]
    buys = adds and draw.random() < 0.9
    for position, event_type in enumerate([*types, *(["purchase"] if buys else [])], start=1):
        yield {
            "session_key": f"shop:{number:05}",
            "shop": "shop",
            "started_at": started,
            "position": position,
            "event_time": started + timedelta(seconds=10 * position),
            "event_type": event_type,
            "product_id": None if event_type == "pageview" else f"p{item}",
            "url": f"/{event_type}",
            "is_purchase": buys,
        }
        item = item if event_type == "pageview" else (item + 1) % products  # the rule: p7 leads to p8


@pytest.fixture(scope="session")
def shop_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that takes a snapshot of a new shop with one session per hour."""

    def take(
        products: int = 40, sessions: int = 700, buyers: bool = True, vectors: Mapping[str, str] | None = None
    ) -> Path:
        folder = tmp_path_factory.mktemp("shop")
        draw = np.random.default_rng(0)
        events = [event for number in range(sessions) for event in _session(number, products, buyers, draw)]
        table = pa.Table.from_pylist(events)
        pq.write_table(table, folder / "events.parquet")
        texts = (pa.array((vectors or {}).keys(), pa.string()), pa.array((vectors or {}).values(), pa.string()))
        pq.write_table(pa.table(texts, ["product_id", "description_vector"]), folder / "vectors.parquet")
        built = warehouse.connect(f"duckdb:///{folder}/shop.duckdb")
        with built.transaction() as transaction:
            for statement in _MARTS.format(events=folder / "events.parquet", vectors=folder / "vectors.parquet").split(
                ";"
            )[:-1]:
                transaction.execute(statement)
        newest = pc.max(table["event_time"]).as_py()  # the tests need the sessions of the last, incomplete day
        return Path(snapshot.take(built, folder / "store", as_of=newest).uri)

    return take


@pytest.fixture(scope="session")
def shop(shop_snapshot: Callable[..., Path]) -> Path:
    """Return the snapshot of a shop with the default numbers of products and sessions."""
    return shop_snapshot()


_VIEWS = """
create schema marts;
create table marts.fct_session_events as
    select 'shop:' || session_id as session_key, 'shop' as shop, event_time::timestamp as event_time,
        'detail' as event_type, product_id::varchar as product_id,
        min(event_time::timestamp) over (partition by session_id) as started_at,
        row_number() over (partition by session_id order by event_time, product_id) as position
    from read_parquet('{events}');
create table marts.recommend_examples as
    select *, null::varchar as url_before, count(*) over (partition by session_key) as items
    from marts.fct_session_events
    qualify items >= 2;
create table marts.intent_examples as
    select *, null::varchar as url, false as is_purchase from marts.fct_session_events;
create table marts.dim_products as
    select distinct 'shop' as shop, product_id, null::varchar as product_name, null::varchar as category, 1.0 as price,
        null::varchar as description_vector
    from marts.fct_session_events;
"""


@pytest.fixture
def snapshot_of_views(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that takes a snapshot of a file of product views."""

    def take(events: Path) -> Path:
        built = warehouse.connect(f"duckdb:///{tmp_path}/views.duckdb")
        with built.transaction() as transaction:
            for statement in _VIEWS.format(events=events).split(";")[:-1]:
                transaction.execute(statement)
        return Path(snapshot.take(built, tmp_path / "store").uri)

    return take
