"""The event contract of landing files, collector, endpoints, `boat erase`, dbt and tests.

An event is one action of a shopper. It has a `session_id` or a `client_id`; times are UTC without a zone. Other fields
are JSON in `extra`.

This module has the only list of column names, event types, words for a missing value and ranges. Its functions read
one value in Python. `boat.landing.values` has the same rules as SQL. `boat.models.graphs` has the rules for event
types, ids and times as TensorFlow. `tests/contracts/test_values.py` compares the three.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite, isnan
from typing import Any, Literal, get_args

SCHEMA_VERSION = 1
DEFAULT_SHOP = "shop"
"""Shop of an event without a shop."""

EventType = Literal["pageview", "detail", "add", "remove", "purchase", "click", "search"]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
PRODUCT_EVENT_TYPES = ("detail", "add", "remove", "purchase", "click")
"""Event types that need a product."""
COUNTED_TYPES = ("purchase", "add", "remove")
"""Event types whose equal lines of one file or request are separate events: two pens are two purchases."""

REFUND = "refund"
"""An event type that is read as a purchase of a negative quantity."""
TYPE_NAMES: Mapping[str, str] = {
    **{name: name for name in EVENT_TYPES},
    **dict.fromkeys(("page_view", "page", "page_viewed", "screen_view", "screenview"), "pageview"),
    **dict.fromkeys(
        ("view", "view_item", "view_product", "product_view", "product_viewed", "viewed_product", "item_view"), "detail"
    ),
    **dict.fromkeys(("cart", "addtocart", "add_to_cart", "product_added", "added_to_cart"), "add"),
    **dict.fromkeys(("removefromcart", "remove_from_cart", "product_removed", "removed_from_cart"), "remove"),
    **dict.fromkeys(
        ("transaction", "transaction_item", "order", "order_completed", "ecommerce_purchase", "buy"), "purchase"
    ),
    **dict.fromkeys(("select_item", "product_clicked", "list_click"), "click"),
    **dict.fromkeys(("view_search_results", "products_searched"), "search"),
    **dict.fromkeys((REFUND, "return", "order_refunded"), REFUND),
}
"""Event types by their names in Google Analytics, Segment, Snowplow and public data sets.

Names are compared in lower case, without surrounding blanks, and with `_` for blanks and hyphens inside.
"""
UNUSED_TYPES = frozenset(
    """
    ad_click ad_exposure ad_impression ad_query add_payment_info add_shipping_info add_to_wishlist app_clear_data
    app_exception app_remove app_update begin_checkout campaign_details cart_shared cart_viewed checkout_started
    checkout_step_completed checkout_step_viewed close_convert_lead coupon_applied coupon_denied coupon_entered
    coupon_removed disqualify_lead dynamic_link_app_open earn_virtual_currency error event exception fav favorite
    file_download first_open first_visit form_start form_submit generate_lead identify in_app_purchase join_group
    level_end level_start level_up login notification_open notification_receive order_cancelled order_updated
    os_update page_ping payment_info_entered post_score product_added_to_wishlist product_list_filtered
    product_list_viewed product_removed_from_wishlist product_reviewed product_shared promotion_clicked
    promotion_viewed qualify_lead remove_from_wishlist save scroll select_content select_promotion session_end
    session_start set_checkout_option share sign_up social spend_virtual_currency timing tutorial_begin
    tutorial_complete unlock_achievement user_engagement video_complete video_progress video_start view_cart
    view_item_list view_promotion wishlist wishlist_product_added_to_cart working_lead
    """.split()  # noqa: SIM905 - a line each would fill two pages
)
"""Event types of other systems that are known and not used: they are counted, not stored, and not an error."""

EARLIEST = datetime(2000, 1, 1)
"""Earliest plausible time of an event, UTC. An earlier time has a wrong unit or notation."""
MAX_AHEAD = timedelta(days=1)
"""Largest time of an event ahead of now, because zones differ. A later time has a wrong unit or notation."""
CLOCK_AHEAD = timedelta(hours=1)
"""Largest time of a device's clock ahead of the receipt. Beyond it, a collected event counts at its receipt."""
CLOCK_LATE = timedelta(days=7)
"""Largest age of a collected event at its receipt. Beyond it, the event counts at its receipt."""
DEVICE_TIME = "device_time"
"""Field of `extra` with the time of a device whose clock is wrong."""
IS_BOT = "is_bot"
"""Field of `extra` that is true if the collector recognised a crawler."""
OCCURRENCE = "occurrence"
"""Field of `extra` that numbers equal purchases, adds and removes of one request, from 2 on."""
MAX_PRICE = 1e10
"""Largest absolute price or amount, in any currency."""
MAX_QUANTITY = 1e6
"""Largest absolute quantity; below 0 it is a return."""

MISSING_WORDS = ("", "undefined", "null", "none", "nil", "nan", "n/a", "(not set)", "(none)", "\\n")
"""Words for a missing id, number or time, in lower case. They do not apply to searches: one for "nan" is a search."""
BLANKS = " \t\n\r\v\f\u00a0\ufeff"
"""Characters that are removed around an id, number, time or name."""

TIME_TEXT = (
    r"(\d{4}-\d{2}-\d{2}|\d{4}/\d{2}/\d{2})"
    r"(?:[Tt ](\d{2}:\d{2}(?::\d{2})?)(\.\d+)? ?(Z|z|UTC|GMT|utc|gmt|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?)?"
)
"""A time as text: date, time of day, fraction of a second and zone, in a syntax that RE2 and Python have."""
TIME_NUMBER = r"\d{9,19}(?:\.\d+)?"
"""A time as a number since 1970; its magnitude gives the unit."""
TIME_EXPONENT = r"\d\.\d{6,17}[eE]\+?\d{1,2}"
"""A time as a number with an exponent, as some programs write floats; with fewer digits it has been rounded."""
TIME_UNITS = ((1e11, 1_000_000), (1e14, 1_000), (1e17, 1), (1e20, -1_000))
"""Upper bound of a number since 1970, and microseconds in its unit; a negative value is a divisor."""
_EPOCH = datetime(1970, 1, 1)
_TIME_TEXT = re.compile(TIME_TEXT, re.ASCII)
_TIME_NUMBER = re.compile(f"{TIME_NUMBER}|{TIME_EXPONENT}", re.ASCII)
NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?"
"""A number as text, in a form that Python matches in linear time."""


@dataclass(frozen=True)
class Column:
    """One column of the contract.

    Attributes:
        name: Name in files and tables.
        type: SQL type, for DuckDB and Snowflake.
        required: Whether a file must have the column and each row a value.
        text: Meaning, for documentation.
        is_id: Whether its values are ids.
        synonyms: Names in other systems, the preferred ones first.
    """

    name: str
    type: Literal["varchar", "timestamp", "double", "integer"]
    required: bool
    text: str
    is_id: bool = False
    synonyms: tuple[str, ...] = ()


COLUMNS = (
    Column(
        "event_id",
        "varchar",
        False,
        "unique in a shop; derived from the content of the event if missing",
        True,
        ("message_id",),
    ),
    Column("shop", "varchar", False, f"name of the shop; `{DEFAULT_SHOP}` if missing", True),
    Column(
        "session_id",
        "varchar",
        False,
        "session id of the shop; this or `client_id` is required",
        True,
        ("user_session", "ga_session_id", "session", "domain_sessionid", "visit_id"),
    ),
    Column(
        "client_id",
        "varchar",
        False,
        "browser, otherwise customer; sessions are cut at gaps of 30 minutes",
        True,
        (
            "user_pseudo_id",
            "anonymous_id",
            "domain_userid",
            "visitor_id",
            "device_id",
            "cookie_id",
            "user_id",
            "customer_id",
        ),
    ),
    Column(
        "event_time",
        "timestamp",
        True,
        "time of the event, UTC",
        False,
        ("timestamp", "ts", "event_timestamp", "derived_tstamp", "datetime", "time", "created_at", "occurred_at"),
    ),
    Column("received_at", "timestamp", False, "receipt by the collector, UTC", False, ("collector_tstamp",)),
    Column(
        "event_type",
        "varchar",
        True,
        f"one of {', '.join(EVENT_TYPES)}; `view` means `detail` …",
        False,
        ("event_name", "event", "action", "behavior_type", "behavior", "type"),
    ),
    Column(
        "product_id",
        "varchar",
        False,
        "required for all types except `pageview` and `search`",
        True,
        ("item_id", "sku", "product_sku", "article_id"),
    ),
    Column("url", "varchar", False, "page address or its hash", False, ("page_location", "page_url")),
    Column("query", "varchar", False, "words of the search", False, ("search_term", "search_query")),
    Column("price", "double", False, "price of one piece", False, ("unit_price", "item_price")),
    Column("quantity", "double", False, "number of pieces; below 0 for a return", False, ("qty",)),
)
ORDER_NUMBER = Column(
    "transaction_id",
    "varchar",
    False,
    "order number of a purchase",
    True,
    ("order_id", "order_number", "tr_orderid", "invoice_no"),
)
"""A field of `extra` that is read like a column."""
AMOUNTS = ("tax", "shipping")
"""Fields of `extra` of a purchase that are numbers."""
ID_COLUMNS = tuple(column.name for column in (*COLUMNS, ORDER_NUMBER) if column.is_id)
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    **{column.name: column.synonyms for column in (*COLUMNS, ORDER_NUMBER)},
    "schema_version": (),
}
"""Synonyms of the columns of an event, the preferred ones first. A name in another case counts before a synonym."""
PRODUCT_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "shop": (),
    "product_id": SYNONYMS["product_id"],
    "product_name": ("item_name", "product_title", "title", "name", "prod_name"),
    "category": ("category_code", "category_name", "item_category", "category_id"),
    "price": SYNONYMS["price"],
}
"""Synonyms of the columns of a catalogue."""


class ValueProblem(ValueError):
    """A value that cannot be read.

    Args:
        reason: `wrong_type`, `not_a_number`, `not_a_time` or `out_of_range`.
        message: The problem, written to follow the name of the column.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def plain_name(name: str) -> str:
    """Return a column's name without regard to case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", name.strip(BLANKS)).lower()


_PLAIN_NAMES = {
    name: plain_name(name)
    for synonyms in (SYNONYMS, PRODUCT_SYNONYMS)
    for column, alternatives in synonyms.items()
    for name in (column, *alternatives)
}


def candidates(names: Iterable[str], synonyms: Mapping[str, tuple[str, ...]] = SYNONYMS) -> dict[str, list[str]]:
    """Return the names that each column of the contract can be read from, the preferred name first.

    Exact names come first, then names in another case, then synonyms in their order.

    Args:
        names: Columns of a file, or fields of an object.
        synonyms: `SYNONYMS`, with `transaction_id` among the columns, or `PRODUCT_SYNONYMS`.
    """
    exact_names = dict.fromkeys(names)
    plain: dict[str, list[str]] = {}
    for name in exact_names:
        plain.setdefault(plain_name(name), []).append(name)
    names_of: dict[str, list[str]] = {}
    for column, alternatives in synonyms.items():
        ordered: list[str] = []
        for synonym in (column, *alternatives):
            if (plain_synonym := _PLAIN_NAMES[synonym]) in plain:
                exact = [synonym] if synonym in exact_names else []
                ordered += exact + [name for name in plain[plain_synonym] if name != synonym]
        if ordered:
            names_of[column] = ordered
    return names_of


def is_missing(text: str) -> bool:
    """Return whether a text is a word for a missing value."""
    return text.strip(BLANKS).lower() in MISSING_WORDS


_INFINITE = (float("inf"), float("-inf"))


def identifier(value: Any) -> str | None:
    """Return an id as text, or None if it is missing.

    The whole number 7 has the same id as 7.0, "7" and "7.0". Other text is not changed.

    Raises:
        ValueProblem: The value is a list, an object, a boolean or infinite.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueProblem("wrong_type", f"is {_type_name(value)}: an id is text or a number")
    if value in _INFINITE:
        raise ValueProblem("wrong_type", "is not a finite number")
    text = _digits(value) if isinstance(value, float) else str(value).strip(BLANKS)
    if text.lower() in MISSING_WORDS:
        return None
    return text[:-2] if text.endswith(".0") and re.fullmatch(r"-?\d+\.0", text, re.ASCII) else text


def order_number(value: Any) -> str | None:
    """Return an order number as text, or None if it is missing or a placeholder such as 0."""
    text = identifier(value)
    return None if text is None or text.strip("0") == "" or text == "-" else text


def number(value: Any, largest: float) -> float | None:
    """Return a number, or None if it is missing.

    Args:
        value: A number, or text.
        largest: Largest absolute value.

    Raises:
        ValueProblem: The value is not a number, or out of range.
    """
    if _is_absent(value):
        return None
    text = value.strip(BLANKS) if isinstance(value, str) else ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number and not re.fullmatch(NUMBER, text, re.ASCII):
        raise ValueProblem("not_a_number", "is not a number")
    try:
        read = float(value if is_number else text)
    except OverflowError:
        read = float("inf")
    if not isfinite(read):
        raise ValueProblem("not_a_number", "is not a finite number")
    if abs(read) > largest:
        raise ValueProblem("out_of_range", f"is not between -{largest:,.0f} and {largest:,.0f}")
    return read


def moment(value: Any) -> datetime | None:
    """Return a time in UTC, without a zone and cut to microseconds, or None if it is missing.

    Args:
        value: ISO 8601 text, or a number since 1970 in seconds, milli-, micro- or nanoseconds.

    Raises:
        ValueProblem: The value is not a time. `plausible` checks its range.
    """
    if _is_absent(value):
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueProblem("not_a_time", f"is {_type_name(value)}, not a time")
    if isinstance(value, int) and 10**8 <= value < 10**19:
        return _since_1970(value)
    text = _digits(value) if isinstance(value, float) else str(value).strip(BLANKS)
    if _TIME_NUMBER.fullmatch(text):
        return _since_1970(int(text) if text.isdigit() else Decimal(text))
    match = _TIME_TEXT.fullmatch(text)
    if not match:
        raise ValueProblem("not_a_time", TIME_HINT)
    return _from_text(match)


TIME_HINT = "is not a time: write ISO 8601 such as 2024-05-01T10:00:00Z, or a number since 1970"


def plausible(time: datetime, now: datetime) -> bool:
    """Return whether the time of an event is plausible. Both times are UTC without a zone."""
    return EARLIEST <= time <= now + MAX_AHEAD


def counted_at(event_time: datetime, received_at: datetime) -> datetime:
    """Return the time at which a collected event counts: its receipt if the device's clock is wrong."""
    return event_time if received_at - CLOCK_LATE <= event_time <= received_at + CLOCK_AHEAD else received_at


def plain_type(text: str) -> str:
    """Return the name of an event type in lower case, with `_` for blanks and hyphens."""
    return re.sub(r"[ -]+", "_", text.strip(BLANKS).lower())


def event_type(text: str) -> str | None:
    """Return one of `EVENT_TYPES`, `refund`, or `None` if the type is unknown or not used."""
    return TYPE_NAMES.get(plain_type(text))


def is_unused(text: str) -> bool:
    """Return whether an event type is known and not used."""
    return plain_type(text) in UNUSED_TYPES


def _is_absent(value: Any) -> bool:
    if isinstance(value, str):
        return is_missing(value)
    return value is None or (isinstance(value, float) and isnan(value))


def _digits(value: float) -> str:
    """Return the digits that a float shows; a large one without an exponent."""
    text = repr(value)
    if "e+" in text and abs(value) < 1e38:
        return f"{Decimal(text):f}"
    return text


def _since_1970(read: int | Decimal) -> datetime:
    for below, unit in TIME_UNITS:
        if read < below:
            microseconds = int(read * unit) if unit > 0 else int(read) // -unit
            return _EPOCH + timedelta(microseconds=microseconds)
    raise ValueProblem("not_a_time", TIME_HINT)


def _from_text(match: "re.Match[str]") -> datetime:
    date, time, fraction, zone = match.groups()
    text = f"{date.replace('/', '-')} {time or '00:00'}"
    try:
        read = datetime.fromisoformat(text) + timedelta(microseconds=int(((fraction or ".")[1:] + "0" * 6)[:6]))
    except ValueError as error:
        raise ValueProblem("not_a_time", TIME_HINT) from error
    try:
        return read - _offset(zone or "")
    except OverflowError:  # its zone moves it out of the years 1 to 9999
        return datetime.min if read.year == 1 else datetime.max


def _offset(zone: str) -> timedelta:
    if zone[:1] not in {"+", "-"}:
        return timedelta()
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return -offset if zone[0] == "-" else offset


def utc_now() -> datetime:
    """Return the time now, in UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
