"""Bad rows are stored with their reason, and received = accepted + duplicate + failed for every file."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat.collect import Collector, CollectRequest, Journal, Policy
from boat.errors import DataError
from boat.landing import BadRows
from boat.landing.dead_letters import FEW
from boat.raw_log import load
from boat.warehouse.duckdb import DuckDBWarehouse

QUARANTINE = BadRows("quarantine")
GOOD = {
    "event_id": "e",
    "shop": "a",
    "session_id": "s",
    "client_id": "c",
    "event_time": "2024-01-01T10:00:00Z",
    "event_type": "detail",
    "product_id": "p",
}
COLLECTED = "20240101T100000-0a1b2c3d.ndjson"


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


def rows(warehouse: DuckDBWarehouse, sql: str) -> list[dict[str, Any]]:
    with warehouse.transaction() as transaction:
        return transaction.query(sql).to_pylist()


def letters(warehouse: DuckDBWarehouse) -> list[tuple[Any, ...]]:
    stored = rows(warehouse, "select source_line, reason, field, payload from raw.dead_letters order by source_line")
    return [tuple(letter.values()) for letter in stored]


def lines(events: list[Any]) -> str:
    return "".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)


def good_event(**changes: Any) -> dict[str, Any]:
    """Return the good event with these changes. `None` removes a field."""
    return {name: value for name, value in (GOOD | changes).items() if value is not None}


MALFORMED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "not_json"),
    "half an object": ('{"event_id": "e", "session_id"', "not_json"),
    "bare words": ("hello shop", "not_json"),
    "single quotes": ("{'event_id': 'e'}", "not_json"),
    "two objects": ("{} {}", "not_json"),
    "CSV": ("e,s,2024-01-01,view,p", "not_json"),
    "a list": ("[1, 2]", "not_an_object"),
    "a list of an event": ("[" + json.dumps(GOOD) + "]", "not_an_object"),
    "a number": ("12", "not_an_object"),
    "a text": ('"event"', "not_an_object"),
    "null": ("null", "not_an_object"),
    "true": ("true", "not_an_object"),
    "an empty object": ({}, "missing"),
    "no time": (good_event(event_time=None), "missing"),
    "an empty time": (good_event(event_time=""), "missing"),
    "a word for a time": (good_event(event_time="yesterday"), "not_a_time"),
    "a day as a number": (good_event(event_time=20240101), "not_a_time"),
    "a negative time": (good_event(event_time=-1), "not_a_time"),
    "an infinite time": (good_event(event_time="infinity"), "not_a_time"),
    "the 30th of February": (good_event(event_time="2024-02-30T10:00:00Z"), "not_a_time"),
    "25 o'clock": (good_event(event_time="2024-02-20T25:00:00Z"), "not_a_time"),
    "a time in an object": (good_event(event_time={"seconds": 1}), "not_a_time"),
    "a time in words": (good_event(received_at="just now"), "not_a_time"),
    "no type": (good_event(event_type=None), "missing"),
    "a blank type": (good_event(event_type="  "), "missing"),
    "an unknown type": (good_event(event_type="wish"), "unknown_event_type"),
    "a number for a type": (good_event(event_type=7), "unknown_event_type"),
    "a list for a type": (good_event(event_type=["add"]), "unknown_event_type"),
    "a view without product": (good_event(product_id=None), "missing"),
    "an add without product": (good_event(event_type="add", product_id=""), "missing"),
    "a purchase without product": (good_event(event_type="purchase", product_id=None), "missing"),
    "nobody": (good_event(session_id=None, client_id=None), "missing"),
    "an empty session": (good_event(session_id="", client_id=None), "missing"),
    "a price in words": (good_event(price="cheap"), "not_a_number"),
    "a price with its currency": (good_event(price="9.50 EUR"), "not_a_number"),
    "an infinite price": (good_event(price="inf"), "not_a_number"),
    "a list of prices": (good_event(price=[1, 2]), "not_a_number"),
    "a quantity in words": (good_event(quantity="two"), "not_a_number"),
    "another version": (good_event(schema_version=99), "unknown_schema_version"),
    "extra that is a list": (good_event(extra=[1]), "wrong_type"),
}


@pytest.mark.parametrize(("event", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_event_is_stored_with_its_reason_line_and_text(
    warehouse: DuckDBWarehouse, folder: Path, event: Any, reason: str
) -> None:
    (folder / "a.ndjson").write_text(lines([GOOD, event, good_event(event_id="f")]))
    with pytest.raises(DataError, match=r"a\.ndjson:2"):
        load(warehouse, folder)
    (done,) = load(warehouse, folder, QUARANTINE).files
    assert (done.received, done.accepted, done.failed, done.reasons) == (3, 2, 1, ((reason, 1),))
    ((line, stored_reason, _field, payload),) = letters(warehouse)
    assert (line, stored_reason, payload) == (2, reason, lines([event]).strip())


@pytest.mark.parametrize("name", [COLLECTED, "events.ndjson"])
def test_forty_kinds_of_malformed_events_among_many_good_ones(
    warehouse: DuckDBWarehouse, folder: Path, name: str
) -> None:
    assert len(MALFORMED) == 40
    bad = [event for event, _ in MALFORMED.values() for _ in range(250)]
    mixed = [good_event(event_id=str(number)) for number in range(90_000)] + bad
    random.Random(1).shuffle(mixed)
    (folder / name).write_text(lines(mixed))
    report = load(warehouse, folder, BadRows("stop" if name == COLLECTED else "quarantine"))
    assert (report.received, report.accepted, report.duplicate, report.failed) == (100_000, 90_000, 0, 10_000)
    assert rows(warehouse, "select count(*) as n from raw.events") == [{"n": 90_000}]
    reasons: dict[str, int] = {}
    for _, reason in MALFORMED.values():
        reasons[reason] = reasons.get(reason, 0) + 250
    by_reason = rows(warehouse, "select reason, count(*) as n from raw.dead_letters group by all")
    assert {row["reason"]: row["n"] for row in by_reason} == reasons == dict(report.files[0].reasons)
    reason_of_payload = {lines([event]).strip(): reason for event, reason in MALFORMED.values()}
    by_payload = rows(warehouse, "select payload, reason, count(*) as n from raw.dead_letters group by all")
    assert all(reason_of_payload[row["payload"]] == row["reason"] for row in by_payload)
    assert sum(row["n"] for row in by_payload) == 10_000


def test_events_sent_three_times_in_any_order_are_loaded_once(warehouse: DuckDBWarehouse, folder: Path) -> None:
    sent = [good_event(event_id=str(number)) for number in range(100_000)] * 3
    random.Random(2).shuffle(sent)
    for part in range(8):
        (folder / f"{part}.ndjson").write_text(lines(sent[part::8]))
    report = load(warehouse, folder)
    assert (report.received, report.accepted, report.duplicate, report.failed) == (300_000, 100_000, 200_000, 0)
    counts = rows(warehouse, "select count(*) as n, count(distinct event_id) as ids from raw.events")
    assert counts == [{"n": 100_000, "ids": 100_000}]


def test_sql_in_every_field_is_text(warehouse: DuckDBWarehouse, folder: Path) -> None:
    parts = ["'; drop table raw.events; --", "' or '1'='1", "1; delete from raw.loads", '" union select * from x', "$$"]
    hostile = [f"{parts[number % 5]}{number}{parts[number * 7 % 5]}" for number in range(500)]
    names = ("event_id", "shop", "session_id", "client_id", "product_id", "url", "query")
    events = [good_event(**dict.fromkeys(names, text), extra={text: text}) for text in hostile]
    (folder / "a.ndjson").write_text(lines(events))
    (folder / "b.ndjson").write_text(lines([good_event(event_id=text, event_type=text) for text in hostile]))
    report = load(warehouse, folder, BadRows("quarantine", max_share=1))
    assert (report.accepted, report.failed) == (500, 500)
    stored = rows(warehouse, f"select {', '.join(names)}, extra from raw.events")
    texts = {row["event_id"] for row in stored}
    assert texts == set(hostile)
    for row in stored:
        assert {row[name] for name in names} == {row["event_id"]}
        assert json.loads(row["extra"]) == {row["event_id"]: row["event_id"]}
    assert {json.loads(row[3])["event_type"] for row in letters(warehouse)} == set(hostile)


def test_an_id_with_another_body_is_a_conflict_and_the_first_wins(warehouse: DuckDBWarehouse, folder: Path) -> None:
    conflicting, third = good_event(product_id="q"), good_event(product_id="r")
    (folder / "a.ndjson").write_text(lines([GOOD, GOOD, conflicting]))
    (folder / "b.ndjson").write_text(lines([third, GOOD, good_event(shop="b", product_id="q")]))
    first, second = load(warehouse, folder).files
    assert (first.received, first.accepted, first.duplicate, first.failed) == (3, 1, 1, 1)
    assert (second.received, second.accepted, second.duplicate, second.failed) == (3, 1, 1, 1)
    conflicts = [
        (3, "id_conflict", "event_id", json.dumps(conflicting)),
        (1, "id_conflict", "event_id", json.dumps(third)),
    ]
    assert sorted(letters(warehouse)) == sorted(conflicts)
    assert rows(warehouse, "select product_id from raw.events where shop = 'a'") == [{"product_id": "p"}]


def test_an_event_sent_again_is_a_duplicate_even_with_other_request_data(
    warehouse: DuckDBWarehouse, folder: Path
) -> None:
    moments = ["2024-01-01T10:00:00Z", "2024-01-01T10:00:07Z"]
    events = [good_event(event_time=moment, received_at=moment, extra={"ip_hash": moment}) for moment in moments]
    (folder / "a.ndjson").write_text(lines(events))
    report = load(warehouse, folder)
    assert (report.accepted, report.duplicate, report.failed) == (1, 1, 0)


def test_a_file_with_too_many_bad_rows_stops_a_load_with_quarantine(warehouse: DuckDBWarehouse, folder: Path) -> None:
    bad = [good_event(event_type="wish")] * (FEW + 1)
    good = [good_event(event_id=str(number)) for number in range(4 * FEW)]
    (folder / "a.ndjson").write_text(lines(good + bad))
    with pytest.raises(DataError, match=r"101 of 501 rows are bad.*line 401: event_type 'wish'"):
        load(warehouse, folder, QUARANTINE)
    assert load(warehouse, folder, BadRows("quarantine", max_share=0.3)).failed == FEW + 1


def test_a_few_bad_rows_never_stop_a_load(warehouse: DuckDBWarehouse, folder: Path) -> None:
    (folder / "a.ndjson").write_text(lines([good_event(event_type="wish")] * FEW))
    assert load(warehouse, folder, QUARANTINE).failed == FEW


def test_damaged_csv_records_are_quarantined_and_other_records_keep_their_lines(
    warehouse: DuckDBWarehouse, folder: Path
) -> None:
    header, row = b"event_id,session_id,event_time,event_type,product_id\n", b"%d,s,2024-01-01,view,p\n"
    damaged = b'2,s,2024-01-01\n3,s,2024-01-01,view,"two\nlines",more\n4,s,2024-01-01,view,caf\xe9\n'
    (folder / "a.csv").write_bytes(header + row % 1 + damaged + row % 5 + b"6,s,never,view,p\n" + row % 7)
    report = load(warehouse, folder, QUARANTINE)
    assert (report.received, report.accepted, report.failed) == (7, 3, 4)
    accepted = rows(warehouse, "select event_id, source_line from raw.events order by 1")
    assert [tuple(row.values()) for row in accepted] == [("1", 2), ("5", 7), ("7", 9)]
    assert [letter[:2] for letter in letters(warehouse)] == [
        (3, "wrong_field_count"),
        (4, "wrong_field_count"),
        (6, "not_utf8"),
        (8, "not_a_time"),
    ]


@pytest.mark.parametrize(
    "text", [b'{"session_id": "caf\xe9"}', b"{\0}", b"{\x1f}", b'{"a": "' + b"x" * 2_100_000 + b'"}']
)
def test_an_unreadable_line_does_not_stop_later_lines(warehouse: DuckDBWarehouse, folder: Path, text: bytes) -> None:
    after = lines([good_event(event_id="f")]).encode()
    (folder / COLLECTED).write_bytes(lines([GOOD]).encode() + text + b"\n" + after)
    report = load(warehouse, folder)
    assert (report.received, report.accepted, report.failed) == (3, 2, 1)
    assert [row["source_line"] for row in rows(warehouse, "from raw.events order by 1 desc")] == [3, 1]
    assert letters(warehouse)[0][0] == 2


def test_bad_rows_of_parquet_and_of_a_catalogue_are_quarantined_too(warehouse: DuckDBWarehouse, folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD, good_event(event_id="f", event_type="wish")]), folder / "a.parquet")
    (folder / "products.csv").write_text("product_id,price\np,1\nq,cheap\n,2\n")
    events, products = load(warehouse, folder, QUARANTINE).files
    assert (events.received, events.accepted, events.failed) == (2, 1, 1)
    assert (products.received, products.accepted, products.failed) == (3, 1, 2)
    failed = rows(warehouse, "select source_file, source_line, reason from raw.dead_letters order by all")
    assert [tuple(row.values()) for row in failed] == [
        ("a.parquet", 2, "unknown_event_type"),
        ("products.csv", 3, "not_a_number"),
        ("products.csv", 4, "missing"),
    ]
    assert {json.loads(letter[3]).get("price") for letter in letters(warehouse)} == {None, "cheap", "2"}


@pytest.fixture
def collect(folder: Path) -> Callable[[list[Any]], None]:
    """Return a function that sends events to a collector with its journal in the landing folder."""

    def send(events: list[Any]) -> None:
        collector, journal = Collector(Policy()), Journal(folder / "events")
        body = json.dumps(events).encode()
        outcome = collector.take(CollectRequest("POST", "", {"content-type": "application/json"}, "203.0.113.7", body))
        journal.append(outcome.accepted, outcome.failed)
        journal.close()

    return send


def test_events_refused_by_the_collector_are_loaded_once_with_their_reasons(
    warehouse: DuckDBWarehouse, folder: Path, collect: Callable[[list[Any]], None]
) -> None:
    collect(
        [good_event(event_id=str(n)) for n in range(5)]
        + [good_event(event_type="wish"), 7, good_event(price="cheap"), GOOD]
    )
    report = load(warehouse, folder)
    assert {done.kind: (done.received, done.accepted, done.failed) for done in report.files} == {
        "dead_letters": (3, 0, 3),
        "events": (6, 6, 0),
    }
    assert [letter[1:3] for letter in letters(warehouse)] == [
        ("unknown_event_type", "event_type"),
        ("not_an_object", ""),
        ("not_a_number", "price"),
    ]
    (received,) = rows(warehouse, "select max(received_at) as at from raw.dead_letters")
    assert abs((datetime.now(UTC).replace(tzinfo=None) - received["at"]).total_seconds()) < 60
    assert all(done.already_loaded for done in load(warehouse, folder).files)
    assert len(letters(warehouse)) == 3


def test_the_collectors_files_never_stop_a_load(
    warehouse: DuckDBWarehouse, folder: Path, collect: Callable[[list[Any]], None]
) -> None:
    collect([GOOD])
    (written,) = (folder / "events").glob("2*/*.ndjson")
    written.write_text(written.read_text() + lines([good_event(event_type="wish")] * (2 * FEW)))
    report = load(warehouse, folder)
    assert (report.accepted, report.failed) == (1, 2 * FEW)


def test_collector_and_loader_use_the_same_reasons(
    warehouse: DuckDBWarehouse, folder: Path, collect: Callable[[list[Any]], None]
) -> None:
    shared_reasons = {"missing", "unknown_event_type", "not_a_number", "unknown_schema_version", "not_an_object"}
    for number, (event, reason) in enumerate(MALFORMED.values()):
        # The collector adds missing times, and accepts only text as an event type.
        timed = isinstance(event, dict) and event.get("event_time") == GOOD["event_time"]
        if timed and reason in shared_reasons and isinstance(event.get("event_type", ""), str):
            (folder / f"{number}.ndjson").write_text(lines([event]))
            collect([event])
    load(warehouse, folder, QUARANTINE)
    counts = rows(
        warehouse,
        """select source_file like 'events/%' as collected, reason, count(*) as n from raw.dead_letters
        where reason <> 'wrong_type' group by all order by 2, 1""",
    )
    assert len(counts) >= 6
    for by_loader, by_collector in zip(counts[::2], counts[1::2], strict=True):
        assert (by_loader["reason"], by_loader["n"]) == (by_collector["reason"], by_collector["n"])
        assert by_loader["collected"] != by_collector["collected"]
