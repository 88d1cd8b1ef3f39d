"""The same event gives the same row of the raw log, in every file format, through the collector and in any notation."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boat import events
from boat.collect import Collector, CollectRequest, Policy
from boat.events import EVENT_TYPES, PRODUCT_EVENT_TYPES
from boat.raw_log import load
from boat.warehouse import connect

Event = dict[str, Any]
Writer = Callable[[Path, list[Event]], None]

NOW = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(minutes=5)


def _csv(path: Path, rows: list[Event]) -> None:
    pacsv.write_csv(pa.Table.from_pylist(rows), path)


def _semicolons(path: Path, rows: list[Event]) -> None:
    pacsv.write_csv(pa.Table.from_pylist(rows), path, pacsv.WriteOptions(delimiter=";"))


def _ndjson(path: Path, rows: list[Event]) -> None:
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))


def _array(path: Path, rows: list[Event]) -> None:
    path.write_text(json.dumps(rows, default=str, indent=1))


def _parquet(path: Path, rows: list[Event]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def _collected(path: Path, requests: list[CollectRequest]) -> None:
    collector = Collector(Policy())
    outcomes = [collector.early(request) or collector.take(request) for request in requests]
    assert b"".join(outcome.failed for outcome in outcomes) == b""
    path.write_bytes(b"".join(outcome.accepted for outcome in outcomes))


def _json_request(path: Path, rows: list[Event]) -> None:
    body = json.dumps({"events": rows}, default=str).encode()
    _collected(path, [CollectRequest("POST", "", {}, "203.0.113.7", body)])


COLLECTED = "20240101T100000-0a1b2c3d.ndjson"
WRITERS: dict[str, Writer] = {
    "events.csv": _csv,
    "SEMICOLONS.CSV": _semicolons,
    "events.ndjson": _ndjson,
    "array.json": _array,
    "events.parquet": _parquet,
    f"events/{COLLECTED}": _json_request,
}
ALIASES = {
    "event_time": ("event_time", "timestamp", "ts", "EVENT_TIME", "eventTime"),
    "event_type": ("event_type", "event", "event_name", "Event_Type"),
    "session_id": ("session_id", "user_session", "sessionId"),
    "client_id": ("client_id", "user_id", "visitorid", "customerId"),
    "product_id": ("product_id", "item_id", "sku", "ProductId"),
    "url": ("url", "page_location"),
    "query": ("query", "search_term"),
    "transaction_id": ("transaction_id", "order_id", "transactionid"),
}
SPELLINGS = {
    "pageview": ("pageview", "page_view", "PageView"),
    "detail": ("detail", "view", "view_item", "Product Viewed", " DETAIL "),
    "add": ("add", "cart", "addtocart", "Add-to-Cart"),
    "remove": ("remove", "remove_from_cart"),
    "purchase": ("purchase", "transaction", "Order Completed"),
    "click": ("click", "select_item"),
    "search": ("search", "view_search_results"),
}
ID = st.one_of(
    st.integers(1, 10**15).map(str),
    st.text("abcdefgh0123456789._: -'\"é", min_size=1, max_size=12).filter(
        lambda text: text == events.identifier(text) and "@" not in text
    ),
    st.sampled_from(["007", "12e5", "11.22", "1.50", "true", "0x1F"]),
)


@st.composite
def shopper_events(draw: st.DrawFn) -> Event:
    event_type = draw(st.sampled_from(EVENT_TYPES))
    event: Event = {
        "event_time": NOW - timedelta(milliseconds=draw(st.integers(0, 6 * 86_400_000))),
        "event_type": event_type,
        "client_id": draw(ID),
        "session_id": draw(st.none() | ID),
        "product_id": draw(ID if event_type in PRODUCT_EVENT_TYPES else st.none() | ID),
        "url": draw(st.none() | st.sampled_from(["/", "/p/0306406152", "https://s.example/a?b=null"])),
        "query": draw(st.none() | st.sampled_from(["none", "red mug", "null"])),
        "price": draw(st.none() | st.integers(0, 10**6).map(lambda cents: cents / 100)),
        "quantity": draw(st.none() | st.integers(-5, 5).map(float)),
        "transaction_id": draw(st.none() | ID) if event_type == "purchase" else None,
    }
    return event


def rewritten(event: Event, choose: random.Random) -> Event:
    """Return the event with synonyms of its columns and other notations of its values."""
    row: Event = {}
    for column, value in event.items():
        name = choose.choice(ALIASES.get(column, (column,)))
        if value is None:
            row[name] = choose.choice([None, None, "", "null"]) if column not in {"url", "query"} else None
        else:
            row[name] = _notation(column, value, choose)
    return row


def _notation(column: str, value: Any, choose: random.Random) -> Any:
    if value is None:
        return None
    if column == "event_time":
        milliseconds = round(value.replace(tzinfo=UTC).timestamp() * 1000)
        texts = (f"{value.isoformat(timespec='milliseconds')}Z", str(value), f"{value} UTC", str(milliseconds))
        return choose.choice((*texts, str(milliseconds * 1000), f"{value.isoformat()}+00:00"))
    if column == "event_type":
        return choose.choice(SPELLINGS[value])
    if column.endswith("_id") and value.isdigit() and not value.startswith("0"):
        return choose.choice((value, f"{value}.0", f" {value} "))
    return str(value) if column in {"price", "quantity"} else value


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(shopper_events(), min_size=1, max_size=12, unique_by=lambda event: event["event_time"]),
    seed=st.integers(0, 10**6),
)
def test_an_event_is_the_same_row_in_every_format_and_through_the_collector(
    tmp_path_factory: pytest.TempPathFactory, sent: list[Event], seed: int
) -> None:
    folder, choose = tmp_path_factory.mktemp("doors"), random.Random(seed)
    landing = folder / "landing"
    landing.mkdir()
    (landing / "0.ndjson").write_text("".join(json.dumps(event, default=str) + "\n" for event in sent))
    for name, write in WRITERS.items():
        if write in {_csv, _semicolons, _parquet}:  # a table has one name for each column
            names = {column: choose.choice(ALIASES.get(column, (column,))) for column in sent[0]}
            rows = [{names[column]: _notation(column, event[column], choose) for column in event} for event in sent]
        else:
            rows = [rewritten(event, choose) for event in sent]
        (landing / name).parent.mkdir(exist_ok=True)
        write(landing / name, rows)
    warehouse = connect(f"duckdb:///{folder / 'warehouse.duckdb'}")
    first, *copies = load(warehouse, landing).files
    assert (first.source_file, first.accepted) == ("0.ndjson", len(sent))
    # An event without an id gets a digest of its content as id, so duplicates have the same content.
    assert {(file.source_file, file.duplicate, file.failed) for file in copies} == {
        (name, len(sent), 0) for name in WRITERS
    }
    with warehouse.transaction() as transaction:
        orders = transaction.query(
            "select json_extract_string(extra, '$.transaction_id') as id from raw.events order by event_time"
        )
    expected = [event["transaction_id"] for event in sorted(sent, key=lambda event: event["event_time"])]
    assert orders["id"].to_pylist() == expected


HITS = {
    "Universal": {"v": "1", "cid": "11.22", "sid": "s1", "pa": "purchase", "ti": "T1", "pr1id": "a", "pr1pr": "9.5"}
    | {"pr1qt": "2", "dl": "https://s.example/thanks"},
    "GA4": {"v": "2", "cid": "11.22", "sid": "s1", "en": "purchase", "ep.transaction_id": "T1", "pr1": "ida~pr9.5~qt2"}
    | {"dl": "https://s.example/thanks", "tid": "G-ABC"},
}
PURCHASE = ("shop", "s1", "11.22", "purchase", "a", "https://s.example/thanks", 9.5, 2.0, "T1")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("hit", HITS.values(), ids=HITS)
def test_a_hit_of_google_analytics_is_the_row_of_the_same_purchase(
    tmp_path: Path, hit: dict[str, str], method: str
) -> None:
    text = urlencode(hit)
    query, body = (text, b"") if method == "GET" else ("", text.encode())
    headers = {"content-type": "application/x-www-form-urlencoded"} if body else {}
    _collected(tmp_path / COLLECTED, [CollectRequest(method, query, headers, "203.0.113.7", body)])
    warehouse = connect(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")
    load(warehouse, tmp_path / COLLECTED)
    with warehouse.transaction() as transaction:
        loaded = transaction.query(
            """select shop, session_id, client_id, event_type, product_id, url, price, quantity,
                json_extract_string(extra, '$.transaction_id') as transaction_id
            from raw.events"""
        )
    assert [tuple(row.values()) for row in loaded.to_pylist()] == [PURCHASE]
