"""What the collector makes of requests, without a server."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boat import landing
from boat.collect import Collector, Outcome, Policy, Request
from boat.collect.access import signature
from boat.collect.body import MAX_BODY_BYTES, MAX_EVENTS
from boat.collect.judge import Reason
from boat.collect.pixel import GIF
from boat.events import COLUMNS, EVENT_TYPES
from boat.warehouse import connect
from tests.collect.events import GOOD, MALFORMED, NOW, nested
from tests.collect.running_collector import SECRET

SHOP = "https://mugs.example"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(clock: Clock) -> Collector:
    return Collector(Policy(frozenset({SHOP}), {"shop-server": SECRET}), clock)


def post(collector: Collector, body: Any, address: str = "203.0.113.77", **headers: str) -> Outcome:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request("POST", "", names, address, content)
    return collector.early(request) or collector.take(request)


def get(collector: Collector, **parameters: object) -> Outcome:
    request = Request("GET", urlencode(parameters), {}, "203.0.113.77")
    return collector.early(request) or collector.take(request)


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.accepted.splitlines()]


def letters(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.failed.splitlines()]


def answer(outcome: Outcome) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(outcome.content)
    return parsed


def test_an_event_becomes_a_line_with_the_columns_of_the_contract(collector: Collector) -> None:
    outcome = post(collector, GOOD | {"colour": "blue"})
    assert outcome.status == 200
    assert answer(outcome) == {"received": 1, "accepted": 1, "failed": 0, "errors": []}
    (row,) = rows(outcome)
    assert set(row) <= {column.name for column in COLUMNS} | {"schema_version", "extra"}
    assert {name: row[name] for name in GOOD if name != "event_time"} == without_time(GOOD)
    assert row["event_time"] == row["received_at"] == "2026-09-21T14:13:20.000000Z"
    assert row["extra"]["colour"] == "blue"


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event_time"}


@pytest.mark.parametrize("body", [GOOD, [GOOD], {"events": [GOOD]}], ids=["one", "list", "batch"])
def test_one_event_a_list_and_a_batch_are_taken_alike(collector: Collector, body: object) -> None:
    assert len(rows(post(collector, body))) == 1


def test_an_event_without_a_time_happened_now(collector: Collector) -> None:
    (row,) = rows(post(collector, {"event_type": "VIEW ", "product_id": 17, "client_id": "c"}))
    assert row["event_time"] == row["received_at"]
    assert (row["event_type"], row["product_id"], row["shop"]) == ("detail", "17", "shop")


@pytest.mark.parametrize(
    ("given_time", "kept"),
    [
        (NOW * 1000, "2026-09-21T14:13:20.000000Z"),
        ("2026-09-21T16:13:20+02:00", "2026-09-21T14:13:20.000000Z"),
        ("2026-09-21T14:13:20.25", "2026-09-21T14:13:20.250000Z"),
    ],
)
def test_times_are_kept_as_utc(collector: Collector, given_time: object, kept: str) -> None:
    assert rows(post(collector, GOOD | {"event_time": given_time}))[0]["event_time"] == kept


def test_a_clock_may_run_ahead_by_a_day(collector: Collector) -> None:
    assert rows(post(collector, GOOD | {"event_time": NOW + 86_400}))
    assert letters(post(collector, GOOD | {"event_time": NOW + 86_401}))[0]["reason"] == "time_out_of_range"


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_event_fails_alone_with_its_reason(collector: Collector, kind: str) -> None:
    event, reason, field = MALFORMED[kind]
    outcome = post(collector, [GOOD, event, GOOD | {"event_id": "e-2"}])
    assert outcome.status == 200
    assert [row["event_id"] for row in rows(outcome)] == ["e-1", "e-2"]
    (error,) = answer(outcome)["errors"]
    assert (error["index"], error["reason"], error["field"]) == (1, reason, field)
    (letter,) = letters(outcome)
    assert (letter["reason"], letter["field"]) == (reason, field)
    assert letter["payload_characters"] > 0


def test_there_are_forty_kinds_and_each_reason_has_one() -> None:
    assert len(MALFORMED) >= 40
    assert {reason for _, reason, _ in MALFORMED.values()} | {"not_json"} == set(Reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b'{"event_type": "add"', "not_json"),
        (b"event_type=add", "not_json"),
        (b'{"price": NaN}', "not_json"),
        (b'{"query": "\xff"}', "not_json"),
        (b'{"event_type": "pageview", "client_id": "c", "price": 1e999}', "not_a_number"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 50_000, "too_deep"),
        (b"[" + b"[" * 900 + b"]" * 900 + b"]", "not_an_object"),
    ],
    ids=["nothing", "cut", "form", "nan", "latin", "infinity", "brackets", "braces", "lists"],
)
def test_a_body_that_is_no_event_at_all_is_one_failed_event(collector: Collector, body: bytes, reason: str) -> None:
    outcome = post(collector, body)
    assert outcome.status == 400
    assert answer(outcome)["failed"] == 1
    assert [letter["reason"] for letter in letters(outcome)] == [reason]
    assert outcome.accepted == b""


def test_the_deepest_event_that_is_taken_has_eight_levels(collector: Collector) -> None:
    assert rows(post(collector, GOOD | {"extra": nested(7)}))
    assert not rows(post(collector, GOOD | {"extra": nested(8)}))


# -- limits and compression


def test_gzip_is_unpacked_and_the_limit_holds_for_what_comes_out(collector: Collector) -> None:
    packed = gzip.compress(json.dumps([GOOD] * 20).encode())
    assert len(rows(post(collector, packed, content_encoding="gzip"))) == 20
    bomb = gzip.compress(b" " * (MAX_BODY_BYTES + 1))
    assert len(bomb) < 1000
    assert post(collector, bomb, content_encoding="gzip").status == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status", "reason"),
    [
        (b"{}", "gzip", 400, "bad_gzip"),
        (gzip.compress(b"{}")[:-4], "gzip", 400, "bad_gzip"),
        (gzip.compress(b"{}") * 2, "gzip", 400, "bad_gzip"),
        (b"{}", "br", 415, "unsupported_encoding"),
        (b" " * (MAX_BODY_BYTES + 1), "", 413, "too_large"),
        (b"[" + b"{}," * MAX_EVENTS + b"{}]", "", 413, "too_many_events"),
        (b"[]", "", 400, "empty"),
    ],
)
def test_a_body_beyond_the_limits_is_refused_whole(
    collector: Collector, body: bytes, encoding: str, status: int, reason: str
) -> None:
    outcome = post(collector, body, content_encoding=encoding)
    assert (outcome.status, answer(outcome)["error"]) == (status, reason)
    assert outcome.accepted == outcome.failed == b""


def test_what_a_head_tells_is_answered_before_the_body_is_read(collector: Collector) -> None:
    def head(method: str = "POST", **headers: str) -> int | None:
        request = Request(method, "", {name.replace("_", "-"): value for name, value in headers.items()}, "::1")
        outcome = collector.early(request)
        return outcome and outcome.status

    assert head() is None
    assert head(content_type="application/json; charset=utf-8") is None
    assert head(content_type="text/xml") == 415
    assert head(content_length=str(MAX_BODY_BYTES + 1)) == 413
    assert head(content_length="9" * 40) == 413
    assert head("DELETE") == 405
    assert head(origin="https://elsewhere.example") == 403


# -- who may send


def test_pages_of_allowed_origins_may_send_and_others_may_not(collector: Collector) -> None:
    allowed = post(collector, GOOD, origin=SHOP)
    assert allowed.headers["access-control-allow-origin"] == SHOP
    assert allowed.headers["vary"] == "origin"
    other = post(collector, GOOD, origin="https://mugs.example.evil.example")
    assert (other.status, other.accepted) == (403, b"")
    assert "access-control-allow-origin" not in other.headers


def test_a_preflight_is_answered_for_allowed_origins(collector: Collector) -> None:
    outcome = collector.early(Request("OPTIONS", "", {"origin": SHOP}, "::1"))
    assert outcome is not None
    assert outcome.status == 204
    assert "x-boat-signature" in outcome.headers["access-control-allow-headers"]


def test_a_signature_is_good_once_and_for_five_minutes(collector: Collector, clock: Clock) -> None:
    body = json.dumps(GOOD).encode()

    def send(sign: str, key: str = "shop-server") -> str:
        outcome = post(collector, body, x_boat_key=key, x_boat_signature=sign)
        return str(answer(outcome).get("error", outcome.status))

    good = signature(SECRET, int(NOW), body)
    assert send(good) == "200"
    assert send(good) == "signature_replayed"
    assert send(signature(SECRET, int(NOW) - 1, body)) == "200"
    assert send(signature(SECRET, int(NOW) - 301, body)) == "signature_expired"
    assert send(signature(SECRET, int(NOW) + 301, body)) == "signature_expired"
    assert send(signature(SECRET, int(NOW), body + b" ")) == "signature_wrong"
    assert send(signature("another-secret-of-a-shop", int(NOW), body)) == "signature_wrong"
    assert send(good, key="nobody") == "signature_unknown"
    assert send("v1=") == "signature_unknown"
    clock.now += 301
    assert send(good) == "signature_expired"


def test_an_unsigned_request_is_refused_where_all_must_be_signed(clock: Clock) -> None:
    collector = Collector(Policy(secrets={"shop-server": SECRET}, signed_only=True), clock)
    assert answer(post(collector, GOOD))["error"] == "signature_missing"
    sign = signature(SECRET, int(NOW), json.dumps(GOOD).encode())
    assert post(collector, GOOD, x_boat_key="shop-server", x_boat_signature=sign).status == 200


def test_each_sender_has_a_rate_of_its_own(clock: Clock) -> None:
    collector = Collector(Policy(secrets={"k": SECRET}, events_per_second=10, burst=20), clock)
    assert post(collector, [GOOD] * 20).status == 200
    limited = post(collector, GOOD)
    assert (limited.status, answer(limited)["error"], limited.accepted) == (429, "rate_limited", b"")
    assert limited.headers["retry-after"] == "1"
    assert post(collector, GOOD, address="198.51.100.1").status == 200
    sign = signature(SECRET, int(NOW), json.dumps(GOOD).encode())
    assert post(collector, GOOD, x_boat_key="k", x_boat_signature=sign).status == 200
    clock.now += 1
    assert post(collector, [GOOD] * 10).status == 200
    assert post(collector, GOOD).status == 429


def test_a_header_with_a_key_but_no_signature_buys_no_rate(clock: Clock) -> None:
    collector = Collector(Policy(secrets={"k": SECRET}, events_per_second=1, burst=1), clock)
    assert post(collector, GOOD, x_boat_key="k").status == 200
    assert post(collector, GOOD, x_boat_key="another").status == 429


# -- privacy


def test_address_and_user_agent_are_reduced_and_no_other_header_is_kept(collector: Collector) -> None:
    headers = {"cookie": "id=bob", "referer": "https://mugs.example/bob", "accept_language": "de-CH"}
    outcome = post(collector, GOOD, user_agent=FIREFOX, **headers)
    (row,) = rows(outcome)
    assert {**row["extra"], "ip_hash": ""} == {"browser": "Firefox", "os": "Linux", "ip_hash": ""}
    assert re.fullmatch("[0-9a-f]{16}", row["extra"]["ip_hash"])
    for personal in (b"203.0.113", b"140.0", b"cookie", b"de-CH", b"mugs.example/bob"):
        assert personal not in outcome.accepted


def test_an_address_is_known_again_within_its_network_and_day_alone(collector: Collector, clock: Clock) -> None:
    def hashed(address: str) -> str:
        return str(rows(post(collector, without_time(GOOD), address))[0]["extra"]["ip_hash"])

    today = hashed("203.0.113.77")
    assert hashed("203.0.113.5") == today
    assert hashed("::ffff:203.0.113.9") == today
    assert hashed("203.0.114.77") != today
    assert hashed("2001:db8:1:2::3") == hashed("2001:db8:1:ffff::1") != hashed("2001:db8:2::3")
    clock.now += timedelta(days=1).total_seconds()
    assert hashed("203.0.113.77") != today


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mail bob.o'neil+shop@mugs.example now", "mail [email] now"),
        ("https://mugs.example/?user=bob%40mugs.example&a=1", "https://mugs.example/?user=[email]&a=1"),
        ("pay 4111 1111 1111 1111 please", "pay [card] please"),
        ("378282246310005", "[card]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("call +49 (171) 123-4567!", "call [phone]!"),
        ("call 0171 1234567", "call [phone]"),
        ("(555) 123-4567", "[phone]"),
        ("0041791234567", "[phone]"),
        ("mug 2026-11-21 10:30:00", "mug 2026-11-21 10:30:00"),
        ("barcode 4006381333931", "barcode 4006381333931"),
        ("?t=1790000000123&page=2", "?t=1790000000123&page=2"),
        ("GA1.2.1234567890.1790000000", "GA1.2.1234567890.1790000000"),
        ("blue @ home, 100% wool", "blue @ home, 100% wool"),
    ],
)
def test_obvious_personal_data_in_free_text_is_masked(collector: Collector, text: str, kept: str) -> None:
    event = GOOD | {"query": text, "url": text, "note": {"deep": [text]}}
    (row,) = rows(post(collector, event))
    assert row["query"] == row["url"] == row["extra"]["note"]["deep"][0] == kept


def test_dead_letters_are_masked_too(collector: Collector) -> None:
    for body in (GOOD | {"client_id": "bob@mugs.example"}, b'{"bob@mugs.example'):
        outcome = post(collector, body)
        assert b"[email]" in outcome.failed
        assert b"bob" not in outcome.failed + outcome.content


def test_what_is_dropped_from_the_request_does_not_come_back_in_the_event(collector: Collector) -> None:
    (row,) = rows(post(collector, GOOD | {"ip": "203.0.113.77", "extra": {"page": {"user_agent": FIREFOX}}}))
    assert row["extra"]["page"] == {}
    assert "ip" not in row["extra"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["a", "a@", "0", "+1 ", "a.", "%40", "(0171) "])
def test_masking_takes_linear_time(collector: Collector, part: str) -> None:
    events = [GOOD | {"note": (part * 31_000)[:31_000]}] * 15
    assert len(rows(post(collector, events))) == 15


# -- the pixel


def test_a_pixel_hit_is_a_page_view_and_answers_with_a_gif(collector: Collector) -> None:
    outcome = get(
        collector, v=1, tid="mugs", cid="1.2", dl="https://mugs.example/", z=99, uip="203.0.113.77", dt="Mugs"
    )
    assert (outcome.status, outcome.content) == (200, GIF)
    assert outcome.headers["content-type"] == "image/gif"
    (row,) = rows(outcome)
    assert (row["event_type"], row["shop"], row["client_id"]) == ("pageview", "mugs", "1.2")
    assert {name: value for name, value in row["extra"].items() if name != "ip_hash"} == {"dt": "Mugs"}


def test_product_actions_become_one_event_a_product(collector: Collector) -> None:
    basket = {"pr1id": "blue", "pr1pr": "12.5", "pr1qt": "2", "pr1nm": "Blue mug", "pr2id": "red"}
    money = {"ti": "T-7", "tr": "39", "tt": "6.2", "ts": "4"}
    outcome = get(collector, tid="mugs", cid="1.2", t="event", ec="cart", pa="purchase", eid="x", **basket, **money)
    first, second = rows(outcome)
    assert (first["event_id"], second["event_id"]) == ("x-1", "x-2")
    assert (first["product_id"], first["price"], first["quantity"]) == ("blue", 12.5, 2)
    assert (second["product_id"], second.get("price")) == ("red", None)
    assert first["extra"]["nm"] == "Blue mug"
    kept = {name: second["extra"][name] for name in ("transaction_id", "revenue", "tax", "shipping", "ec")}
    assert kept == {"transaction_id": "T-7", "revenue": "39", "tax": "6.2", "shipping": "4", "ec": "cart"}


def test_a_queued_hit_happened_before_it_came(collector: Collector) -> None:
    (row,) = rows(get(collector, cid="1.2", qt=1500))
    assert row["event_time"] == (datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=1.5)).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "missing"),
        ({"cid": "1.2", "qt": "-1"}, "not_a_time"),
        ({"cid": "1.2", "qt": "9" * 5000}, "not_a_time"),
        ({"cid": "1.2", "pa": "refund", "pr1id": "a"}, "unknown_event_type"),
        ({"cid": "1.2", "pa": "add"}, "missing"),
        ({"tid": "mugs"}, "missing"),
    ],
)
def test_a_bad_hit_is_a_dead_letter(collector: Collector, parameters: dict[str, str], reason: str) -> None:
    outcome = get(collector, **parameters)
    assert outcome.status == 400
    assert [letter["reason"] for letter in letters(outcome)] == [reason]


# -- the loader takes whatever the collector takes

TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["", " ", "NaN", "1e400", "null", "\u2028", "'; drop table x"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TIMES = JSON | st.floats(1e8, 1.8e9) | st.datetimes(datetime(1974, 1, 1), datetime(2026, 1, 1)).map(str)
EVENTS = (
    st.fixed_dictionaries(
        {"event_type": st.sampled_from(EVENT_TYPES), "client_id": st.just("c")},
        optional={
            "event_id": TEXTS,
            "session_id": TEXTS | st.integers(),
            "product_id": TEXTS | st.integers(),
            "event_time": TIMES,
            "price": JSON,
            "quantity": FLOATS | TEXTS,
            "url": TEXTS,
            "query": TEXTS,
            "extra": st.dictionaries(TEXTS, JSON, max_size=3),
            "user_id": JSON,
            "note": JSON,
        },
    )
    | JSON
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=1, max_size=30))
def test_what_the_collector_takes_the_loader_takes(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    outcome = post(Collector(Policy(), Clock()), json.dumps(events).encode())
    if outcome.status == 400 and not outcome.failed:
        return
    counts = json.loads(outcome.content)
    assert counts["received"] == counts["accepted"] + counts["failed"]
    assert (len(rows(outcome)), len(letters(outcome))) == (counts["accepted"], counts["failed"])
    assert load(tmp_path_factory.mktemp("loaded"), outcome).received == counts["accepted"]


def load(folder: Path, outcome: Outcome) -> landing.LoadReport:
    (folder / "landing").mkdir()
    (folder / "landing" / "events.ndjson").write_bytes(outcome.accepted)
    return landing.load(connect(f"duckdb:///{folder}/warehouse.duckdb"), folder / "landing")


def test_every_column_arrives_in_the_raw_log(collector: Collector, tmp_path: Path) -> None:
    outcome = post(collector, [GOOD, GOOD | {"event_id": "e-2", "query": "mug\u2028'; drop table raw.events; --"}])
    assert load(tmp_path, outcome).accepted == 2
    with connect(f"duckdb:///{tmp_path}/warehouse.duckdb").session() as session:
        first, second = session.query("select * from raw.events order by event_id").to_pylist()
    assert {name: first[name] for name in GOOD if name != "event_time"} == without_time(GOOD)
    assert first["event_time"] == first["received_at"] == datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
    assert second["query"] == "mug\u2028'; drop table raw.events; --"
