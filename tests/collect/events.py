"""A good event and fifty kinds of bad events, with the reason and the field that the collector must name."""

from typing import Any

NOW = 1_790_000_000.0
GOOD: dict[str, Any] = {
    "event_id": "e-1",
    "shop": "mugs",
    "event_type": "add",
    "client_id": "c-1",
    "session_id": "s-1",
    "product_id": "blue-mug",
    "event_time": NOW,
    "url": "https://mugs.example/blue",
    "price": 12.5,
    "quantity": 1,
}


PURCHASE = GOOD | {"event_type": "purchase"}


def nested(levels: int) -> dict[str, Any]:
    """Return an object with this number of levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def without(*names: str) -> dict[str, Any]:
    """Return the good event without some of its fields."""
    return {name: value for name, value in GOOD.items() if name not in names}


MALFORMED: dict[str, tuple[Any, str, str]] = {
    "a number in place of an object": (7, "not_an_object", ""),
    "a text in place of an object": ("add", "not_an_object", ""),
    "a list in place of an object": ([GOOD], "not_an_object", ""),
    "null in place of an object": (None, "not_an_object", ""),
    "true in place of an object": (True, "not_an_object", ""),
    "an event above the size limit": (GOOD | {"note": "x" * 33_000}, "too_large", ""),
    "an extra nested too deeply": (GOOD | {"extra": nested(8)}, "too_deep", ""),
    "a field nested too deeply": (GOOD | {"cart": nested(8)}, "too_deep", ""),
    "a list nested too deeply": (GOOD | {"cart": [[[[[[[[[]]]]]]]]]}, "too_deep", ""),
    "no event type": (without("event_type"), "missing", "event_type"),
    "an empty event type": (GOOD | {"event_type": ""}, "missing", "event_type"),
    "a null event type": (GOOD | {"event_type": None}, "missing", "event_type"),
    "an event type nobody knows": (GOOD | {"event_type": "checkout"}, "unknown_event_type", "event_type"),
    "a number as event type": (GOOD | {"event_type": 3}, "wrong_type", "event_type"),
    "neither session nor client": (without("session_id", "client_id"), "missing", "session_id"),
    "empty session and client": (GOOD | {"session_id": "", "client_id": None}, "missing", "session_id"),
    "blank session and client": (GOOD | {"session_id": "  ", "client_id": "\t"}, "missing", "session_id"),
    "words for a missing session and client": (
        GOOD | {"session_id": "(not set)", "client_id": "undefined", "user_id": "NaN"},
        "missing",
        "session_id",
    ),
    "an object as session": (GOOD | {"session_id": {"id": 1}}, "wrong_type", "session_id"),
    "true as client": (GOOD | {"client_id": True}, "wrong_type", "client_id"),
    "an e-mail address as client": (GOOD | {"client_id": "bob@shop.example"}, "personal_data", "client_id"),
    "an add without a product": (without("product_id"), "missing", "product_id"),
    "a product called null": (GOOD | {"product_id": "null"}, "missing", "product_id"),
    "true as product": (GOOD | {"product_id": True}, "wrong_type", "product_id"),
    "a list under another name of the product": (
        without("product_id") | {"itemId": ["a"]},
        "wrong_type",
        "product_id",
    ),
    "a product's id that is too long": (GOOD | {"product_id": "p" * 257}, "too_long", "product_id"),
    "a line break in a product's id": (GOOD | {"product_id": "blue\nmug"}, "bad_character", "product_id"),
    "a NUL in a session": (GOOD | {"session_id": "s\0"}, "bad_character", "session_id"),
    "half a surrogate pair in a product's id": (GOOD | {"product_id": "\ud800"}, "bad_character", "product_id"),
    "half a surrogate pair in extra": (GOOD | {"note": "\udfff"}, "bad_character", "extra"),
    "a shop's name that is too long": (GOOD | {"shop": "s" * 65}, "too_long", "shop"),
    "an address that is too long": (GOOD | {"url": "u" * 4097}, "too_long", "url"),
    "a list as address": (GOOD | {"url": ["/"]}, "wrong_type", "url"),
    "a query that is too long": (GOOD | {"query": "q" * 1025}, "too_long", "query"),
    "words as time": (GOOD | {"event_time": "yesterday"}, "not_a_time", "event_time"),
    "a thirteenth month": (GOOD | {"event_time": "2026-13-01T00:00:00Z"}, "not_a_time", "event_time"),
    "true as time": (GOOD | {"event_time": True}, "not_a_time", "event_time"),
    "a list as time": (GOOD | {"event_time": [NOW]}, "not_a_time", "event_time"),
    "a time of day alone": (GOOD | {"event_time": "10:30"}, "not_a_time", "event_time"),
    "a date with the month first": (GOOD | {"event_time": "05/14/2026 10:30"}, "not_a_time", "event_time"),
    "words as price": (GOOD | {"price": "cheap"}, "not_a_number", "price"),
    "an infinite price": (GOOD | {"price": "1e999"}, "not_a_number", "price"),
    "an absurd price": (GOOD | {"price": 1e11}, "out_of_range", "price"),
    "an absurd quantity": (GOOD | {"quantity": -1e7}, "out_of_range", "quantity"),
    "an absurd tax": (PURCHASE | {"extra": {"tax": 2e10}}, "out_of_range", "tax"),
    "words as shipping": (PURCHASE | {"shipping": "much"}, "not_a_number", "shipping"),
    "a list as order number": (PURCHASE | {"order_id": ["T-1"]}, "wrong_type", "transaction_id"),
    "a list as quantity": (GOOD | {"quantity": [1]}, "not_a_number", "quantity"),
    "a number beyond 64 bits in extra": (GOOD | {"points": 2**70}, "not_a_number", "extra"),
    "a schema version of tomorrow": (GOOD | {"schema_version": 2}, "unknown_schema_version", "schema_version"),
    "a text as extra": (GOOD | {"extra": "colour=blue"}, "wrong_type", "extra"),
}
