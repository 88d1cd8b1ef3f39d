"""What the collector makes of requests, without a server."""

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boat import raw_log
from boat.collect import Collector, Outcome, Policy, Request
from boat.collect.access import signature
from boat.collect.body import MAX_BODY_BYTES, MAX_EVENTS
from boat.collect.validation import Reason
from boat.events import COLUMNS, EVENT_TYPES
from boat.warehouse import connect
from tests.collect.events import GOOD, MALFORMED, NOW, PURCHASE, nested
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
    assert answer(outcome) == {"received": 1, "accepted": 1, "unused": 0, "failed": 0, "errors": []}
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


@pytest.mark.parametrize(
    ("given_time", "device_time"),
    [
        ("1980-01-01T00:00:10Z", "1980-01-01T00:00:10Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00Z"),
        ("9999-12-31 23:59:59", "9999-12-31T23:59:59Z"),
        ("20191001120000", "2609-10-30T03:25:20Z"),
        (20191001120000, "2609-10-30T03:25:20Z"),
        (315532810, "1980-01-01T00:00:10Z"),
        (12, "12"),
        (0, "0"),
        (-1.5, "-1.5"),
        (1e30, "1e+30"),
        (10**80, "1" + "0" * 63),
        (int(NOW) - 7 * 86_400 - 1, "2026-09-14T14:13:19Z"),
        (NOW + 3601, "2026-09-21T15:13:21Z"),
    ],
)
def test_an_event_of_a_wrong_clock_counts_at_its_receipt(
    collector: Collector, given_time: object, device_time: str
) -> None:
    (row,) = rows(post(collector, GOOD | {"event_time": given_time}))
    assert row["event_time"] == row["received_at"]
    assert row["extra"]["device_time"] == device_time


@pytest.mark.parametrize("seconds", [NOW - 7 * 86_400, NOW - 2 * 3600, NOW + 3600])
def test_an_event_within_a_week_before_and_an_hour_after_counts_at_its_own_time(
    collector: Collector, seconds: float
) -> None:
    (row,) = rows(post(collector, GOOD | {"event_time": seconds}))
    assert row["event_time"] == datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert "device_time" not in row["extra"]


def test_a_client_cannot_set_what_the_collector_sets(collector: Collector) -> None:
    claims = {"is_bot": True, "occurrence": 7, "device_time": "1980-01-01T00:00:00Z"}
    event = GOOD | claims | {"extra": claims, "received_at": "2020-01-01T00:00:00Z", "receivedAt": 1}
    (row,) = rows(post(collector, event))
    assert row["extra"].keys() == {"ip_hash"}
    assert row["received_at"] == "2026-09-21T14:13:20.000000Z"


# -- names, words and notations of other systems


@pytest.mark.parametrize(
    ("event", "columns"),
    [
        ({"timestamp": NOW - 7200}, {"event_time": "2026-09-21T12:13:20.000000Z"}),
        ({"Timestamp": "2026-09-21T12:13:20Z"}, {"event_time": "2026-09-21T12:13:20.000000Z"}),
        ({"itemid": "a-1"}, {"product_id": "a-1"}),
        ({"Product-ID": 355908.0}, {"product_id": "355908"}),
        ({"sku": "variant-1", "SKU": "MASTER-9"}, {"product_id": "variant-1", "extra.SKU": "MASTER-9"}),
        ({"product_id": "a", "item_id": "b"}, {"product_id": "a", "extra.item_id": "b"}),
        ({"product_id": "undefined", "item_id": "b"}, {"product_id": "b"}),
        ({"product_id": " a ", "page_location": "/x"}, {"product_id": "a", "url": "/x"}),
        ({"search_term": "none"}, {"query": "none"}),
        ({"query": "N/A", "search_term": "mug"}, {"query": "N/A", "extra.search_term": "mug"}),
        ({"query": 7}, {"query": "7"}),
        ({"client_id": "undefined", "user_id": 530496790.0}, {"client_id": "530496790"}),
        ({"client_id": "c", "user_id": "u"}, {"client_id": "c", "extra.user_id": "u"}),
        ({"client_id": "11.22"}, {"client_id": "11.22"}),
        ({"client_id": "12e5"}, {"client_id": "12e5"}),
        ({"client_id": 5304967901234567.0}, {"client_id": "5304967901234567"}),
        ({"price": "9.5", "qty": " 2 "}, {"price": 9.5, "quantity": 2}),
        ({"price": "undefined", "unit_price": 3}, {"price": 3}),
        ({"extra": {"orderId": 4000.0}}, {"extra.transaction_id": "4000"}),
        ({"transactionid": "T-1", "extra": {"a": 1}}, {"extra.transaction_id": "T-1", "extra.a": 1}),
        ({"transaction_id": "0", "order_id": "T-2"}, {"extra.transaction_id": "T-2"}),
        ({"tax": "n/a", "extra": {"shipping": "-4.99"}}, {"extra.shipping": -4.99}),
        ({"SchemaVersion": "1", "schema_version": None}, {"schema_version": 1}),
        ({"quantity": -2}, {"quantity": -2}),
        ({"event_type": "refund"}, {"event_type": "purchase", "quantity": -1}),
        ({"event_type": "Order Refunded", "quantity": 3}, {"event_type": "purchase", "quantity": -3}),
        ({"event_type": "refund", "quantity": -3}, {"event_type": "purchase", "quantity": -3}),
        (
            {"event_type": None, "event": "Product Viewed", "type": "track"},
            {"event_type": "detail", "extra.type": "track"},
        ),
    ],
)
def test_fields_are_understood_by_the_contract(
    collector: Collector, event: dict[str, Any], columns: dict[str, Any]
) -> None:
    defaults: dict[str, Any] = {"event_type": "purchase", "client_id": "c-1", "product_id": "p"}
    others = {"itemid", "Product-ID", "sku"} & event.keys()
    defaults = {name: value for name, value in defaults.items() if not (others and name == "product_id")}
    (row,) = rows(post(collector, defaults | event))
    kept = {**row, **{f"extra.{name}": value for name, value in row["extra"].items()}}
    assert {name: kept[name] for name in columns} == columns
    known = {name for name in columns if name.startswith("extra.")} | {"extra.ip_hash"}
    assert {name for name in kept if name.startswith("extra.")} == known


@pytest.mark.parametrize("placeholder", ["0", "000", 0, "-", "null", "(not set)", " "])
def test_a_placeholder_is_no_order_number(collector: Collector, placeholder: object) -> None:
    (row,) = rows(post(collector, PURCHASE | {"transaction_id": placeholder}))
    assert "transaction_id" not in row["extra"]


def test_an_event_of_a_type_that_is_not_used_is_counted_and_not_kept(collector: Collector) -> None:
    outcome = post(collector, [{"event_type": "scroll"}, GOOD, {"event": "Session-Start", "client_id": "c"}])
    assert answer(outcome) == {"received": 3, "accepted": 1, "unused": 2, "failed": 0, "errors": []}
    assert len(rows(outcome)) == 1
    alone = post(collector, {"event_name": "user_engagement"})
    assert (alone.status, alone.accepted, alone.failed) == (200, b"", b"")


def test_events_of_other_shops_are_dead_letters(clock: Clock) -> None:
    collector = Collector(Policy(shops=frozenset({"mugs", "cups"})), clock)
    outcome = post(collector, [GOOD, GOOD | {"shop": "cups"}, GOOD | {"shop": "Mugs"}, GOOD | {"shop": None}])
    assert [row["shop"] for row in rows(outcome)] == ["mugs", "cups"]
    assert [(letter["reason"], letter["field"]) for letter in letters(outcome)] == [("unknown_shop", "shop")] * 2


def test_equal_purchases_adds_and_removes_of_one_request_are_numbered(collector: Collector) -> None:
    line = {name: value for name, value in PURCHASE.items() if name != "event_id"}
    view = line | {"event_type": "detail"}
    events = [line, line, line | {"price": 5}, view, view, line, line | {"event_type": "add"}, PURCHASE, PURCHASE]
    numbers = [row["extra"].get("occurrence") for row in rows(post(collector, events))]
    assert numbers == [None, 2, None, None, None, 3, None, None, None]
    assert "occurrence" not in rows(post(collector, line))[0]["extra"]


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


def test_there_are_fifty_kinds_and_each_reason_has_one() -> None:
    assert len(MALFORMED) >= 50
    assert {reason for _, reason, _ in MALFORMED.values()} | {"not_json", "unknown_shop"} == set(Reason)


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
    assert head(content_type="application/x-www-form-urlencoded") is None
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
        ("pay 4111 1111 1111 1111 please", "pay [card] please"),
        ("378282246310005", "[card]"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("call +49 (171) 123-4567!", "call [phone]!"),
        ("call me +49 176 1234567", "call me [phone]"),
        ("call 0171 1234567", "call [phone]"),
        ("(555) 123-4567", "[phone]"),
        ("0041791234567", "[phone]"),
        ("mug 2026-11-21 10:30:00", "mug 2026-11-21 10:30:00"),
        ("barcode 4006381333931", "barcode 4006381333931"),
        ("barcode 4 006381 333931", "barcode 4 006381 333931"),
        ("0012345678905", "0012345678905"),
        ("isbn 0306406152 or 978-0-306-40615-7", "isbn 0306406152 or 978-0-306-40615-7"),
        ("9780306406157", "9780306406157"),
        ("14006381333938", "14006381333938"),
        ("?t=1790000000123&page=2", "?t=1790000000123&page=2"),
        ("GA1.2.1234567890.1790000000", "GA1.2.1234567890.1790000000"),
        ("blue @ home, 100% wool", "blue @ home, 100% wool"),
    ],
)
def test_personal_data_in_free_text_is_masked_and_article_numbers_are_not(
    collector: Collector, text: str, kept: str
) -> None:
    (row,) = rows(post(collector, GOOD | {"query": text, "remark": {"deep": [text]}}))
    assert row["query"] == row["extra"]["remark"]["deep"][0] == kept


@pytest.mark.parametrize(
    "path",
    [
        "/dp/0306406152",
        "/dp/0171-1234567",
        "/p/4111111111111111",
        "/9780306406157/buy?sku=4006381333931",
        "/?sku=4111111111111111&isbn=0306406152",
        "/?id=0171%201234567",
        "/?order=0041791234567#p=0171%201234567",
        "/?mobile=true&phone=nokia-3310&card=visa&q=4006381333931",
    ],
)
def test_ids_in_urls_are_never_masked(collector: Collector, path: str) -> None:
    url = f"https://books.example{path}"
    (row,) = rows(post(collector, GOOD | {"url": url, "referrer": url, "link": path}))
    assert row["url"] == row["extra"]["referrer"] == url
    assert row["extra"]["link"] == path


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("/?user=bob%40mugs.example&a=1", "/?user=[email]&a=1"),
        ("/u/bob@mugs.example/orders", "/u/[email]/orders"),
        ("/?a=1&tel=%2B49%20176%201234567&b=2", "/?a=1&tel=[phone]&b=2"),
        ("/?customerPhone=0171-1234567", "/?customerPhone=[phone]"),
        ("/#mobile_number=1761234567", "/#mobile_number=[phone]"),
        ("/?card_number=4111111111111112", "/?card_number=[card]"),
        ("/?user[phone]=01711234567", "/?user[phone]=[phone]"),
        ("/search?q=call+%2B49+176+1234567&page=2", "/search?q=call%20[phone]&page=2"),
        ("tel:+491761234567", "tel:[phone]"),
    ],
)
def test_personal_data_in_urls_is_masked(collector: Collector, url: str, kept: str) -> None:
    (row,) = rows(post(collector, GOOD | {"url": url, "referrer": url}))
    assert row["url"] == row["extra"]["referrer"] == kept


def test_ids_in_extra_are_kept_and_fields_that_are_named_for_a_phone_are_not(collector: Collector) -> None:
    ids = dict.fromkeys(("sku", "isbn", "ean", "gtin", "variantId", "user_id", "transaction_id"), "4111111111111111")
    personal = {"phone": 491761234567, "contact": {"mobile": "0176/1234567"}, "card_number": "4111111111111112"}
    (row,) = rows(post(collector, GOOD | ids | personal))
    assert {name: row["extra"][name] for name in ids if name != "sku"} == {n: v for n, v in ids.items() if n != "sku"}
    masked = {name: row["extra"][name] for name in personal}
    assert masked == {"phone": "[phone]", "contact": {"mobile": "[phone]"}, "card_number": "[card]"}
    assert rows(post(collector, GOOD | {"author_id": "bob@mugs.example"}))[0]["extra"]["author_id"] == "[email]"


def test_dead_letters_are_masked_by_field(collector: Collector) -> None:
    event = {"product_id": "0306406152", "url": "/dp/0171-1234567", "query": "0171 1234567", "phone": 1711234567}
    (letter,) = letters(post(collector, event))
    kept = {"product_id": "0306406152", "url": "/dp/0171-1234567", "query": "[phone]", "phone": "[phone]"}
    assert json.loads(letter["payload"]) == kept


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


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENTS, min_size=1, max_size=30))
def test_what_the_collector_takes_the_loader_takes(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> None:
    outcome = post(Collector(Policy(), Clock()), json.dumps(events).encode())
    if outcome.status == 400 and not outcome.failed:
        return
    counts = json.loads(outcome.content)
    assert counts["received"] == counts["accepted"] + counts["unused"] + counts["failed"]
    assert (len(rows(outcome)), len(letters(outcome))) == (counts["accepted"], counts["failed"])
    assert load(tmp_path_factory.mktemp("loaded"), outcome).received == counts["accepted"]


def load(folder: Path, outcome: Outcome) -> raw_log.LoadReport:
    (folder / "landing").mkdir()
    (folder / "landing" / "events.ndjson").write_bytes(outcome.accepted)
    return raw_log.load(connect(f"duckdb:///{folder}/warehouse.duckdb"), folder / "landing")


def test_every_column_arrives_in_the_raw_log(collector: Collector, tmp_path: Path) -> None:
    outcome = post(collector, [GOOD, GOOD | {"event_id": "e-2", "query": "mug\u2028'; drop table raw.events; --"}])
    assert load(tmp_path, outcome).accepted == 2
    with connect(f"duckdb:///{tmp_path}/warehouse.duckdb").transaction() as transaction:
        first, second = transaction.query("select * from raw.events order by event_id").to_pylist()
    assert {name: first[name] for name in GOOD if name != "event_time"} == without_time(GOOD)
    assert first["event_time"] == first["received_at"] == datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
    assert second["query"] == "mug\u2028'; drop table raw.events; --"
