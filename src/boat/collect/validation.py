"""Validate an event by the rules of `boat.events`: return a row for the landing file, or raise the reason.

The loader accepts every row that is returned here.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from math import isfinite
from typing import Any

from boat import events
from boat.collect import privacy
from boat.events import ValueProblem

MAX_DEPTH = 8
"""Most levels of objects and lists. The event itself is the first."""
MAX_TEXT = {
    "event_id": 128,
    "shop": 64,
    "session_id": 256,
    "client_id": 256,
    "product_id": 256,
    "url": 4096,
    "query": 1024,
}
"""Most characters of each text."""
MAX_DEVICE_TIME = 64
OURS = (events.IS_BOT, events.DEVICE_TIME, events.OCCURRENCE)
"""Fields of `extra` that only the collector and the loader write. They are removed from events."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IDS = ("event_id", "shop", "session_id", "client_id", "product_id")
_NUMBERS = (("price", events.MAX_PRICE), ("quantity", events.MAX_QUANTITY))
_CONTENT = (
    *("shop", "session_id", "client_id", "event_time", "event_type"),
    *("product_id", "url", "query", "price", "quantity"),
)
_TEXTS = {"url": privacy.masked_url, "query": privacy.masked}
_PLAIN_ID = re.compile(r"[A-MO-TV-Za-mo-tv-z0-9_-][A-Za-z0-9_-]{0,62}|[A-Za-z_-]{1,22}[0-9][A-Za-z0-9_-]{0,40}")
"""Ids that need no further check. Words for a missing value begin with n or u and have no digit."""
_NO_FIELDS = frozenset({"extra"})
_ORDER = events.ORDER_NUMBER.name
_CACHED_NAMES = 64


class CollectReason(StrEnum):
    """Reason why an event failed. The values are a contract: dead letters are grouped by them."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    MISSING = "missing"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    BAD_CHARACTER = "bad_character"
    PERSONAL_DATA = "personal_data"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    UNKNOWN_SHOP = "unknown_shop"
    NOT_A_TIME = "not_a_time"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"


class BadEvent(Exception):
    """An event that is not valid.

    Args:
        reason: Reason, as a code.
        field: Column of the contract that is not valid. Empty: the event as a whole.
        message: Explanation for the sender. It quotes no value, because values may be personal.
    """

    def __init__(self, reason: CollectReason, field: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.field, self.message = reason, field, message


class Receipt:
    """Values that all events of a request share.

    Args:
        time: Time of receipt in UTC.
        sender: Fields to add to the `extra` of each event.
        shops: Names of the accepted shops. Empty: any shop.
    """

    def __init__(self, time: datetime, sender: Mapping[str, Any], shops: frozenset[str] = frozenset()) -> None:
        self.time = time.replace(tzinfo=None)
        self.sender, self.shops = sender, shops
        self.text = _iso(self.time)


class _Names:
    """Names of an event's fields, by the column that they mean.

    Args:
        keys: Names of the fields.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        candidates = events.candidates(keys)
        candidates.pop(_ORDER, None)  # it is read from `extra`
        self.columns = {column: tuple(names) for column, names in candidates.items()}
        """Names of fields for each column, the preferred one first."""
        self.ids = [(column, self.columns[column]) for column in _IDS if column in self.columns]
        is_single = sum(map(len, self.columns.values())) == len(self.columns)
        self.has_remaining = not is_single or len(self.columns) != len(set(keys) - _NO_FIELDS)
        """Whether a field may remain for `extra`."""

    def remaining(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that have a value and are not a column of the row."""
        dropped = {*_NO_FIELDS, *self.columns.get("received_at", ())}
        for column, names in self.columns.items():
            is_missing = _is_blank if column in _TEXTS else _is_nothing
            is_read = False
            for name in names:
                if is_missing(event[name]):
                    dropped.add(name)
                elif not is_read:
                    dropped.add(name)
                    is_read = True
        return {name: value for name, value in event.items() if name not in dropped and not _is_empty(value)}


def row(event: Any, receipt: Receipt) -> dict[str, Any] | None:
    """Return the columns of `boat.events` that have a value, with `extra`. Return None if the event's type is unused.

    Args:
        event: Parsed JSON.
        receipt: Values that all events of the request share.

    Raises:
        BadEvent: The event is not valid.
    """
    if not isinstance(event, dict):
        raise BadEvent(CollectReason.NOT_AN_OBJECT, "", "An event must be a JSON object.")
    keys = tuple(event)
    names = _cached_names(keys) if len(keys) <= _CACHED_NAMES else _Names(keys)
    event_type = _event_type(event, names)
    if event_type is None:
        return None
    columns = _ids(event, names)
    columns["event_type"] = "purchase" if event_type == events.REFUND else event_type
    _check_required(columns, receipt.shops)
    columns["event_time"], device_time = _times(event, names, receipt)
    columns["received_at"] = receipt.text
    _put_texts(columns, event, names)
    for column, largest in _NUMBERS:
        amount = _value(event, names, column, events.number, largest)
        if amount is not None:
            columns[column] = amount
    if event_type == events.REFUND:
        columns["quantity"] = -abs(columns.get("quantity") or 1.0)
    columns["schema_version"] = _schema_version(event, names)
    extra = _extra(event, names, columns["event_type"])
    if device_time is not None:
        extra[events.DEVICE_TIME] = device_time
    extra.update(receipt.sender)
    columns["extra"] = extra
    return columns


def number_equal(rows: Iterable[dict[str, Any]]) -> None:
    """Number equal purchases, adds and removes of one request from 2 on, so that each counts as an event."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for columns in rows:
        if columns["event_type"] in events.COUNTED_TYPES and "event_id" not in columns:
            content = tuple(map(columns.get, _CONTENT))
            counts[content] += 1
            if counts[content] > 1:
                columns["extra"][events.OCCURRENCE] = counts[content]


def _value(event: Mapping[str, Any], names: _Names, column: str, reader: Callable[..., Any], *arguments: Any) -> Any:
    """Return the first value of a column that is not missing.

    Raises:
        BadEvent: The value is not valid.
    """
    for name in names.columns.get(column, ()):
        try:
            value = reader(event[name], *arguments)
        except ValueProblem as problem:
            raise _bad_value(column, problem) from problem
        if value is not None:
            return value
    return None


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip(events.BLANKS))


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and events.is_missing(value))


_cached_names = lru_cache(512)(_Names)


@lru_cache(512)
def _cached_order_names(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(events.candidates(keys).get(_ORDER, ()))


def _bad_value(column: str, problem: ValueProblem) -> BadEvent:
    return BadEvent(CollectReason(problem.reason), column, f"{column} {problem.message}.")


def _event_type(event: Mapping[str, Any], names: _Names) -> str | None:
    """Return a type of the contract or `refund`, or None if the type is known and unused."""
    exact = event.get("event_type")
    if type(exact) is str and exact in events.TYPE_NAMES:  # most events
        return events.TYPE_NAMES[exact]
    text = _value(event, names, "event_type", _type_text)
    if text is None:
        raise BadEvent(CollectReason.MISSING, "event_type", "event_type is missing.")
    event_type = events.event_type(text)
    if event_type is None and not events.is_unused(text):
        message = f"event_type is unknown. Use one of {', '.join(events.EVENT_TYPES)}."
        raise BadEvent(CollectReason.UNKNOWN_EVENT_TYPE, "event_type", message)
    return event_type


def _type_text(value: Any) -> str | None:
    if _is_nothing(value):
        return None
    if not isinstance(value, str):
        raise ValueProblem("wrong_type", "is not text")
    return value


def _ids(event: Mapping[str, Any], names: _Names) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for column, candidates in names.ids:
        for name in candidates:
            value = event[name]
            text = value if type(value) is str and _PLAIN_ID.fullmatch(value) else _id(value, column)
            if text is not None:
                columns[column] = text
                break
    columns.setdefault("shop", events.DEFAULT_SHOP)
    return columns


def _id(value: Any, column: str) -> str | None:
    try:
        text = events.identifier(value)
    except ValueProblem as problem:
        raise _bad_value(column, problem) from problem
    if text is not None and privacy.has_email(_checked(text, column)):
        raise BadEvent(CollectReason.PERSONAL_DATA, column, f"{column} contains an e-mail address. Send a pseudonym.")
    return text


def _put_texts(columns: dict[str, Any], event: Mapping[str, Any], names: _Names) -> None:
    for column, mask in _TEXTS.items():
        if column in names.columns:
            text = _value(event, names, column, _text)
            if text is not None:
                columns[column] = mask(_checked(text, column))


def _text(value: Any) -> str | None:
    """Return a text that is not an id. Words for a missing value are values here."""
    if isinstance(value, str):
        return None if _is_blank(value) else value
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return events.identifier(value)
    raise ValueProblem("wrong_type", "is not text")


def _checked(text: str, name: str) -> str:
    limit = MAX_TEXT[name]
    if len(text) > limit:
        raise BadEvent(
            CollectReason.TOO_LONG, name, f"{name} has {len(text)} characters. At most {limit} are accepted."
        )
    if not text.isprintable() and (_CONTROL.search(text) or not _is_unicode(text)):
        raise BadEvent(
            CollectReason.BAD_CHARACTER, name, f"{name} contains a control character or half a surrogate pair."
        )
    return text


def _check_required(columns: Mapping[str, Any], shops: frozenset[str]) -> None:
    if "session_id" not in columns and "client_id" not in columns:
        raise BadEvent(CollectReason.MISSING, "session_id", "session_id and client_id are missing. Send one of them.")
    event_type = columns["event_type"]
    if "product_id" not in columns and event_type in events.PRODUCT_EVENT_TYPES:
        raise BadEvent(CollectReason.MISSING, "product_id", f"An event of type {event_type} needs a product_id.")
    if shops and columns["shop"] not in shops:
        raise BadEvent(
            CollectReason.UNKNOWN_SHOP, "shop", "This collector does not accept events of this shop. Check its name."
        )


def _times(event: Mapping[str, Any], names: _Names, receipt: Receipt) -> tuple[str, str | None]:
    """Return the time at which the event counts, and the device's time if it differs."""
    device_time: datetime | str | None = _value(event, names, "event_time", _moment)
    if not isinstance(device_time, datetime):
        return receipt.text, device_time
    event_time = events.counted_at(device_time, receipt.time)
    return _iso(event_time), None if event_time == device_time else f"{device_time.isoformat()}Z"


def _moment(value: Any) -> datetime | str | None:
    """Return a time. Return a number as text if it is not a time in any unit: the device's clock is wrong."""
    try:
        return events.moment(value)
    except ValueProblem:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            raise
        return str(value)[:MAX_DEVICE_TIME]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"


def _schema_version(event: Mapping[str, Any], names: _Names) -> int:
    for name in names.columns.get("schema_version", ()):
        version = event[name]
        if _is_nothing(version):
            continue
        if isinstance(version, bool) or version not in (events.SCHEMA_VERSION, str(events.SCHEMA_VERSION)):
            message = f"schema_version must be {events.SCHEMA_VERSION}."
            raise BadEvent(CollectReason.UNKNOWN_SCHEMA_VERSION, "schema_version", message)
    return events.SCHEMA_VERSION


def _extra(event: Mapping[str, Any], names: _Names, event_type: str) -> dict[str, Any]:
    nested = event.get("extra")
    if nested is None or nested == "":
        nested = {}
    elif not isinstance(nested, dict):
        raise BadEvent(CollectReason.WRONG_TYPE, "extra", "extra must be a JSON object.")
    if not nested and not names.has_remaining:
        return {}
    remaining = names.remaining(event)
    # The event itself is one level. Fields of `extra` are one level deeper than the event's other fields.
    _check_tree(nested, MAX_DEPTH - 1)
    _check_tree(remaining, MAX_DEPTH)
    extra = {**nested, **remaining}
    for name in OURS:
        extra.pop(name, None)
    _name_order(extra, event_type)
    if event_type == "purchase":
        _read_amounts(extra)
    masked: dict[str, Any] = privacy.masked_tree(extra)
    return masked


def _name_order(extra: dict[str, Any], event_type: str) -> None:
    """Store the order number under its canonical name. Drop placeholders such as 0."""
    keys = tuple(extra)
    for name in _cached_order_names(keys) if len(keys) <= _CACHED_NAMES else events.candidates(keys).get(_ORDER, ()):
        try:
            text = events.order_number(extra[name])
        except ValueProblem as problem:
            if event_type != "purchase":
                continue
            raise _bad_value(_ORDER, problem) from problem
        del extra[name]
        if text is not None:
            extra[_ORDER] = text
            return


def _read_amounts(extra: dict[str, Any]) -> None:
    for name in events.AMOUNTS:
        if name in extra:
            try:
                amount = events.number(extra.pop(name), events.MAX_PRICE)
            except ValueProblem as problem:
                raise _bad_value(name, problem) from problem
            if amount is not None:
                extra[name] = amount


def _check_tree(value: Any, levels: int) -> None:
    """Raise `BadEvent` for a value that some JSON parsers cannot read."""
    if isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise BadEvent(CollectReason.BAD_CHARACTER, "extra", "extra contains a NUL or half a surrogate pair.")
    elif isinstance(value, (dict, list)):
        if levels == 0:
            raise BadEvent(CollectReason.TOO_DEEP, "", f"The event is nested deeper than {MAX_DEPTH} levels.")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_tree(part, levels - 1)
    elif isinstance(value, (int, float)) and not abs(value) < 2**63:
        raise BadEvent(CollectReason.NOT_A_NUMBER, "extra", "extra contains a number beyond 64 bits.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        return False
    return True
