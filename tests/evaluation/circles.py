"""A shop whose sessions go around in circles of products, with new products in its last days."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat import snapshot, warehouse
from boat.models.examples import Sessions

FIRST = datetime(2024, 5, 1)
CIRCLES, ROUND = 6, 10

_MARTS = """
create schema marts;
create table marts.fct_session_events as select * from read_parquet('{events}');
create table marts.recommend_examples as select *, null::varchar as url_before from marts.fct_session_events
    where event_type = 'detail';
create table marts.intent_examples as select * from marts.fct_session_events where event_type != 'purchase';
create table marts.dim_products as
    select 'shop' as shop, product_id, null::varchar as product_name, any_value(category) as category,
        any_value(price) as price, null::varchar as description_vector
    from marts.fct_session_events where product_id is not null group by product_id;
"""


def _session(number: int, draw: np.random.Generator) -> Iterator[dict[str, object]]:
    """Yield a session of successive products in a category. In the last days, some are replaced by new products."""
    started = FIRST + timedelta(hours=number)
    circle, step = int(draw.integers(CIRCLES)), int(draw.integers(ROUND))
    adds = draw.random() < 0.3
    buys = bool(adds and draw.random() < 0.7)
    types = ["pageview", *["detail"] * int(draw.integers(3, 8)), *(["add"] if adds else [])]
    for position, event_type in enumerate([*types, *(["purchase"] if buys else [])], start=1):
        forks = number >= 830 and event_type == "detail" and step % 5 == 0
        name = f"new-{circle}-{step}" if forks else f"p-{circle}-{step}"
        yield {
            "session_key": f"shop:{number:05}",
            "shop": "shop",
            "started_at": started,
            "position": position,
            "event_time": started + timedelta(seconds=20 * position),
            "event_type": event_type,
            "product_id": None if event_type == "pageview" else name,
            "url": f"/{event_type}",
            "is_purchase": buys,
            "category": f"c{circle}",
            "price": 10.0 * 2**circle + step,
        }
        if event_type == "detail":
            step = (step + (1 if draw.random() < 0.8 else 3)) % ROUND


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("circles"), np.random.default_rng(0)
    events = pa.Table.from_pylist([event for number in range(900) for event in _session(number, draw)])
    pq.write_table(events, folder / "events.parquet")
    built = warehouse.connect(f"duckdb:///{folder}/shop.duckdb")
    with built.transaction() as transaction:
        for statement in _MARTS.format(events=folder / "events.parquet").split(";")[:-1]:
            transaction.execute(statement)
    return Path(snapshot.take(built, folder / "store", test_days=3).uri)


def with_prefix(part: Sessions, prefix: str) -> Sessions:
    """Return sessions with a prefix before all product ids."""
    column = part.events.column_names.index("product_id")
    names = pa.array([f"{prefix}{name}" for name in part.strings("product_id")])
    return Sessions(part.events.set_column(column, "product_id", names), part.offsets)
