"""Hits of Google Analytics by GET and POST."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from boat.collect import Collector, CollectRequest, CollectResult, Policy
from boat.collect.access import signature
from boat.collect.body import MAX_EVENTS
from boat.collect.pixel import GIF
from tests.collect.events import NOW
from tests.collect.running_collector import SECRET

FORM = "application/x-www-form-urlencoded"
GA4 = {"v": "2", "tid": "G-ABC", "cid": "11.22", "sid": "1714557600"}
MUG = {"pr1": "ida~nmMug~pr9.5~qt1"}
PURCHASE = GA4 | MUG | {"en": "purchase", "dl": "https://s/thanks", "ep.transaction_id": "T1", "epn.value": "9.5"}


@pytest.fixture
def collector() -> Collector:
    return Collector(Policy(secrets={"shop-server": SECRET}), lambda: NOW)


def get(collector: Collector, parameters: dict[str, Any]) -> CollectResult:
    return ask(collector, CollectRequest("GET", urlencode(parameters), {}, "203.0.113.77"))


def post(collector: Collector, query: str, body: str, content_type: str = "text/plain;charset=UTF-8") -> CollectResult:
    headers = {"content-type": content_type} if content_type else {}
    return ask(collector, CollectRequest("POST", query, headers, "203.0.113.77", body.encode()))


def ask(collector: Collector, request: CollectRequest) -> CollectResult:
    return collector.early(request) or collector.take(request)


def rows(outcome: CollectResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.accepted.splitlines()]


def letters(outcome: CollectResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.failed.splitlines()]


def answer(outcome: CollectResult) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(outcome.content)
    return parsed


def extra(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row["extra"].items() if name != "ip_hash"}


# -- Universal Analytics


def test_a_page_view_answers_with_a_gif(collector: Collector) -> None:
    hit = {"v": 1, "tid": "mugs", "cid": "1.2", "t": "pageview", "dl": "https://mugs.example/", "z": 99, "dt": "Mugs"}
    outcome = get(collector, hit | {"uip": "203.0.113.77", "ua": "Firefox"})
    assert (outcome.status, outcome.content) == (200, GIF)
    assert outcome.headers["content-type"] == "image/gif"
    (row,) = rows(outcome)
    assert (row["event_type"], row["shop"], row["client_id"]) == ("pageview", "mugs", "1.2")
    assert extra(row) == {"dt": "Mugs"}


def test_a_product_action_becomes_an_event_for_each_product(collector: Collector) -> None:
    basket = {"pr1id": "blue", "pr1pr": "12.5", "pr1qt": "2", "pr1nm": "Blue mug", "pr2id": "red", "pr3nm": "Cup"}
    money = {"ti": "T-7", "tr": "39", "tt": "6.2", "ts": "-4.99", "cu": "EUR"}
    hit = {"tid": "mugs", "cid": "1.2", "t": "event", "ec": "cart", "pa": "purchase", "eid": "x"}
    first, second, third = rows(get(collector, hit | basket | money))
    assert [row["event_id"] for row in (first, second, third)] == ["x-1", "x-2", "x-3"]
    assert (first["product_id"], first["price"], first["quantity"]) == ("blue", 12.5, 2)
    assert (second["product_id"], second.get("price")) == ("red", None)
    assert third["product_id"] == "Cup"
    amounts = {"transaction_id": "T-7", "revenue": 39, "tax": 6.2, "shipping": -4.99, "currency": "EUR", "ec": "cart"}
    assert extra(second) == amounts
    assert extra(first) == amounts | {"nm": "Blue mug"}


def test_a_return_is_a_purchase_with_a_negative_quantity(collector: Collector) -> None:
    hit = {"v": 1, "tid": "demo", "cid": "9.9", "t": "pageview", "ti": "T-1", "pr1id": "sku1", "pr1qt": "-1"}
    (row,) = rows(get(collector, hit | {"pa": "purchase"}))
    assert (row["event_type"], row["quantity"]) == ("purchase", -1)
    (row,) = rows(get(collector, hit | {"pa": "refund", "pr1qt": "2"}))
    assert (row["event_type"], row["quantity"], row["extra"]["transaction_id"]) == ("purchase", -2, "T-1")


def test_an_item_hit_is_a_purchase_and_its_transaction_is_unused(collector: Collector) -> None:
    hit = {"v": 1, "tid": "mugs", "cid": "1.2", "ti": "T-7"}
    item = {"t": "item", "in": "Blue mug", "ic": "blue", "ip": "12.5", "iq": "2"}
    (row,) = rows(get(collector, hit | item))
    assert (row["event_type"], row["product_id"], row["price"], row["quantity"]) == ("purchase", "blue", 12.5, 2)
    assert extra(row) == {"transaction_id": "T-7", "in": "Blue mug"}
    assert rows(get(collector, hit | {"t": "item", "in": "Blue mug"}))[0]["product_id"] == "Blue mug"
    outcome = get(collector, hit | {"t": "transaction", "tr": "25"})
    assert (outcome.status, outcome.accepted, outcome.failed) == (200, b"", b"")


@pytest.mark.parametrize("hit_type", ["screenview", "appview"])
def test_a_screen_view_is_a_page_view(collector: Collector, hit_type: str) -> None:
    assert rows(get(collector, {"v": 1, "cid": "1.2", "t": hit_type}))[0]["event_type"] == "pageview"


@pytest.mark.parametrize(
    "hit",
    [
        {"t": "event", "ec": "video", "ea": "play"},
        {"t": "timing"},
        {"t": "social"},
        {"t": "exception"},
        {"t": "pageview", "pa": "checkout", "pr1id": "a"},
        {"t": "event", "pa": "checkout_option"},
    ],
)
def test_a_hit_without_commerce_is_unused(collector: Collector, hit: dict[str, str]) -> None:
    outcome = get(collector, {"v": 1, "tid": "mugs", "cid": "1.2"} | hit)
    assert (outcome.status, outcome.accepted, outcome.failed) == (200, b"", b"")


def test_a_page_view_with_products_is_one_page_view(collector: Collector) -> None:
    (row,) = rows(get(collector, {"v": 1, "cid": "1.2", "t": "pageview", "pr1id": "a", "pr2id": "b"}))
    assert (row["event_type"], row.get("product_id")) == ("pageview", None)


def test_a_queued_hit_gets_an_earlier_time(collector: Collector) -> None:
    (row,) = rows(get(collector, {"cid": "1.2", "t": "pageview", "qt": 1500}))
    happened = datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=1.5)
    assert row["event_time"] == happened.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "missing"),
        ({"cid": "1.2"}, "missing"),
        ({"v": "1", "tid": "mugs", "cid": "1.2"}, "missing"),
        ({"v": "2", "tid": "G-ABC", "cid": "1.2"}, "missing"),
        ({"v": "3", "tid": "mugs", "cid": "1.2", "t": "pageview"}, "unknown_schema_version"),
        ({"cid": "1.2", "t": "pageview", "qt": "-1"}, "not_a_time"),
        ({"cid": "1.2", "t": "pageview", "qt": "9" * 5000}, "not_a_time"),
        ({"cid": "1.2", "t": "hit"}, "unknown_event_type"),
        ({"cid": "1.2", "pa": "buy-now", "t": "pageview", "pr1id": "a"}, "unknown_event_type"),
        ({"cid": "1.2", "pa": "add"}, "missing"),
        ({"cid": "undefined", "t": "pageview"}, "missing"),
        ({"tid": "mugs", "t": "pageview"}, "missing"),
        (GA4 | {"en": "my_event"}, "unknown_event_type"),
        (GA4 | {"en": "purchase"}, "missing"),
        (PURCHASE | {"pr1": "ida~prfree"}, "not_a_number"),
        (PURCHASE | {"epn.tax": "2e10"}, "out_of_range"),
    ],
)
def test_a_bad_hit_is_a_dead_letter(collector: Collector, parameters: dict[str, str], reason: str) -> None:
    outcome = get(collector, parameters)
    assert (outcome.status, outcome.accepted) == (400, b"")
    assert [letter["reason"] for letter in letters(outcome)] == [reason]


def test_a_dead_letter_of_a_hit_has_no_ip_or_e_mail_address(collector: Collector) -> None:
    hit = {"cid": "1.2", "uip": "203.0.113.77", "dl": "https://mugs.example/?tel=01711234567&sku=4006381333931"}
    (letter,) = letters(get(collector, hit | {"el": "bob@mugs.example"}))
    masked = {"cid": "1.2", "dl": "https://mugs.example/?tel=[phone]&sku=4006381333931", "el": "[email]"}
    assert json.loads(letter["payload"]) == masked


@pytest.mark.parametrize("tid", ["G-ABC123", "UA-1234-5", "GTM-XY12", "AW-99"])
def test_a_property_of_google_is_a_shop_only_if_one_has_its_name(tid: str) -> None:
    hit = {"v": 1, "tid": tid, "cid": "1.2", "t": "pageview"}
    (row,) = rows(get(Collector(Policy(), lambda: NOW), hit))
    assert (row["shop"], extra(row)) == ("shop", {"tid": tid})
    (row,) = rows(get(Collector(Policy(shops=frozenset({tid})), lambda: NOW), hit))
    assert (row["shop"], extra(row)) == (tid, {})


# -- Google Analytics 4


def test_a_purchase_of_analytics_4(collector: Collector) -> None:
    (row,) = rows(get(collector, PURCHASE | {"cu": "EUR", "_p": "1", "_s": "2", "_et": "12", "uaa": "x86"}))
    expected = {
        "event_type": "purchase",
        "product_id": "a",
        "price": 9.5,
        "quantity": 1,
        "client_id": "11.22",
        "session_id": "1714557600",
        "shop": "shop",
        "url": "https://s/thanks",
    }
    assert {name: row[name] for name in expected} == expected
    expected = {"transaction_id": "T1", "revenue": 9.5, "currency": "EUR", "tid": "G-ABC", "nm": "Mug", "_et": "12"}
    assert extra(row) == expected


def test_each_product_of_analytics_4_is_an_event(collector: Collector) -> None:
    products = {"pr2": "nmCup~qt3", "pr1": "ida~~1~nmMug~~~pr9.5~k0size~v0L~brAcme~vaBlue", "pr10": "idb~pr1~qtnull"}
    first, second, third = rows(get(collector, GA4 | products | {"en": "add_to_cart", "ep.event_id": "e"}))
    assert [row["event_id"] for row in (first, second, third)] == ["e-1", "e-2", "e-10"]
    assert (first["product_id"], first["price"], first.get("quantity")) == ("a~1", 9.5, None)
    assert extra(first) == {"tid": "G-ABC", "nm": "Mug~", "size": "L", "br": "Acme", "va": "Blue"}
    assert (second["product_id"], second["quantity"]) == ("Cup", 3)
    assert (third["product_id"], third.get("quantity")) == ("b", None)


@pytest.mark.parametrize(
    ("parameters", "columns"),
    [
        ({"en": "page_view"}, {"event_type": "pageview"}),
        ({"en": "view_item", **MUG}, {"event_type": "detail", "product_id": "a"}),
        ({"en": "select_item", **MUG}, {"event_type": "click"}),
        ({"en": "remove_from_cart", **MUG}, {"event_type": "remove"}),
        ({"en": "refund", **MUG}, {"event_type": "purchase", "quantity": -1}),
        ({"en": "view_search_results", "ep.search_term": "none"}, {"event_type": "search", "query": "none"}),
        ({"en": "view_item", "ep.item_id": "a", "epn.price": "2"}, {"product_id": "a", "price": 2}),
        ({"en": "page_view", "ep.timestamp": f"{NOW - 60}"}, {"event_time": "2026-09-21T14:12:20.000000Z"}),
        ({"en": "page_view", "ep.created_at": "last year"}, {"event_time": "2026-09-21T14:13:20.000000Z"}),
        ({"en": "page_view", "uid": "u-1", "cid": ""}, {"client_id": "u-1"}),
        ({"en": "page_view", "uid": "u-1"}, {"client_id": "11.22"}),
    ],
)
def test_events_of_analytics_4_are_mapped(
    collector: Collector, parameters: dict[str, str], columns: dict[str, Any]
) -> None:
    (row,) = rows(get(collector, GA4 | parameters))
    assert {name: row[name] for name in columns} == columns


@pytest.mark.parametrize("name", ["scroll", "session_start", "user_engagement", "view_item_list", "begin_checkout"])
def test_unused_events_of_analytics_4(collector: Collector, name: str) -> None:
    outcome = get(collector, GA4 | MUG | {"en": name})
    assert (outcome.status, outcome.accepted, outcome.failed) == (200, b"", b"")


# -- POST


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "", FORM, "application/json"])
def test_a_posted_hit_is_in_the_body_or_in_the_query(collector: Collector, content_type: str) -> None:
    text = urlencode(PURCHASE)
    for query, body in ((text, ""), ("", text), ("", f"\r\n{text}\r\n")):
        outcome = post(collector, query, body, content_type)
        assert answer(outcome) == {"received": 1, "accepted": 1, "unused": 0, "failed": 0, "errors": []}
        assert rows(outcome)[0]["product_id"] == "a"


@pytest.mark.parametrize("content_type", ["text/plain", "", FORM])
def test_each_line_of_a_batch_is_a_hit_with_the_parameters_of_the_query(
    collector: Collector, content_type: str
) -> None:
    lines = ["en=page_view&dl=https%3A%2F%2Fs%2F", "en=scroll&epn.percent_scrolled=90", "en=view_item&pr1=ida", "en=x"]
    outcome = post(collector, urlencode(GA4), "\r\n".join(lines), content_type)
    counts = answer(outcome)
    assert [counts[name] for name in ("received", "accepted", "unused", "failed")] == [4, 2, 1, 1]
    assert [(row["event_type"], row["client_id"]) for row in rows(outcome)] == [
        ("pageview", "11.22"),
        ("detail", "11.22"),
    ]
    assert counts["errors"][0]["index"] == 3


def test_a_universal_hit_may_be_posted(collector: Collector) -> None:
    (row,) = rows(post(collector, "", "v=1&tid=mugs&cid=1.2&t=pageview&dp=%2Fa", FORM))
    assert (row["shop"], row["url"]) == ("mugs", "/a")


def test_json_is_not_a_hit(collector: Collector) -> None:
    event = '{"event_type": "search", "client_id": "c", "query": "v=2&en=purchase"}'
    for query, content_type in (("", FORM), (urlencode(PURCHASE), "text/plain")):
        (row,) = rows(post(collector, query, event, content_type))
        assert row["event_type"] == "search"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("cid=1.2", FORM, "missing"),
        ("", FORM, "missing"),
        ("hello", FORM, "missing"),
        ("hello", "text/plain", "not_json"),
        ("v=2&x=1", "text/plain", "not_json"),
        ("&".join(f"ep.a{number}=1" for number in range(1100)), FORM, "too_large"),
        ("v=2&en=page_view&cid=c&ep.a=" + "x" * 70_000, "text/plain", "too_large"),
        (f"v=2&en=add_to_cart&cid=c&pr1=ida&pr2=idb&ep.a={'x' * 9000}", "text/plain", "too_large"),
    ],
)
def test_a_body_that_is_not_a_hit_is_a_dead_letter(
    collector: Collector, body: str, content_type: str, reason: str
) -> None:
    outcome = post(collector, "", body, content_type)
    assert (outcome.status, outcome.accepted) == (400, b"")
    assert [letter["reason"] for letter in letters(outcome)] == [reason]


def test_too_many_hits_are_refused_as_a_whole(collector: Collector) -> None:
    lines = "\n".join(["v=2&cid=c&en=page_view"] * (MAX_EVENTS + 1))
    assert post(collector, "", lines).status == 413
    products = "&".join(f"pr{number}=id{number}" for number in range(1, 201))
    assert post(collector, "", "\n".join([f"v=2&cid=c&en=add_to_cart&{products}"] * 6)).status == 413
    assert post(collector, "v=2&" + "x" * 9000, "cid=c&en=a\ncid=c&en=b").status == 413


def test_the_query_of_a_signed_post_is_ignored(collector: Collector) -> None:
    body = "v=2&cid=1.2&en=page_view"
    headers = {"x-boat-key": "shop-server", "x-boat-signature": signature(SECRET, int(NOW), body.encode())}
    (row,) = rows(ask(collector, CollectRequest("POST", "tid=evil&dl=/evil", headers, "203.0.113.77", body.encode())))
    assert (row["shop"], row.get("url")) == ("shop", None)


def test_equal_products_of_a_hit_are_separate_lines(collector: Collector) -> None:
    first, second = rows(get(collector, GA4 | {"en": "purchase", "pr1": "ida~pr3", "pr2": "ida~pr3"}))
    assert (first["extra"].get("occurrence"), second["extra"]["occurrence"]) == (None, 2)
