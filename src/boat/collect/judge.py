"""What the collector makes of one event that it was given: a row for the landing file, or what is wrong with it.

Whatever passes here, the loader takes too: a landing file with one row that it does not take is not loaded at all.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from boat.collect import privacy
from boat.events import EVENT_TYPES, PRODUCT_EVENT_TYPES, SCHEMA_VERSION, TYPE_NAMES

MAX_DEPTH = 8
"""Levels of objects and lists, the event itself being the first."""
MAX_TEXT = {"shop": 64, "event_id": 128, "session_id": 256, "client_id": 256, "product_id": 256, "query": 1024}
MAX_URL = 4096
MAX_AHEAD = timedelta(days=1)
"""How far a shopper's clock may run ahead."""
DEFAULT_SHOP = "shop"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_EARLIEST, _LATEST = 1e8, 1e14  # the numbers that the loader reads as times, see `boat.landing`
_MILLISECONDS = 1e11
_KNOWN = {"event_time", "event_type", "url", "price", "quantity", "schema_version", "extra", "received_at", *MAX_TEXT}


class Reason(StrEnum):
    """Why an event failed. The values are a contract: dead letters are grouped by them."""

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
    NOT_A_TIME = "not_a_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    NOT_A_NUMBER = "not_a_number"
    UNKNOWN_SCHEMA_VERSION = "unknown_schema_version"


class BadEvent(Exception):
    """An event that cannot be taken.

    Args:
        reason: Why.
        field: Which of its fields; empty for the event as a whole.
        message: For the person who sends it; tells no value, as that may be personal.
    """

    def __init__(self, reason: Reason, field: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.field, self.message = reason, field, message


def row(given: Any, received_at: datetime, sender: Mapping[str, str]) -> dict[str, Any]:
    """The columns of `boat.events` with `extra`, without those that have no value.

    Args:
        given: An event as it came.
        received_at: Now, in UTC.
        sender: What is kept of the request, put into `extra`.

    Raises:
        BadEvent: It cannot be taken.
    """
    if not isinstance(given, dict):
        raise BadEvent(Reason.NOT_AN_OBJECT, "", "An event is a JSON object.")
    given = {name: value for name, value in given.items() if value is not None and value != ""}
    event_type = _event_type(given)
    columns: dict[str, Any] = {name: _identifier(given, name) for name in MAX_TEXT if name in given and name != "query"}
    columns.setdefault("shop", DEFAULT_SHOP)
    if "session_id" not in columns and "client_id" not in columns:
        raise BadEvent(Reason.MISSING, "session_id", "Give a session_id or a client_id.")
    if event_type in PRODUCT_EVENT_TYPES and "product_id" not in columns:
        raise BadEvent(Reason.MISSING, "product_id", f"A {event_type} needs a product_id.")
    columns["event_type"] = event_type
    columns["event_time"] = _iso(_event_time(given, received_at))
    columns["received_at"] = _iso(received_at)
    for name, limit in (("url", MAX_URL), ("query", MAX_TEXT["query"])):
        if name in given:
            columns[name] = privacy.masked(_text(given[name], name, limit))
    columns |= {name: _number(given[name], name) for name in ("price", "quantity") if name in given}
    columns["schema_version"] = _schema_version(given)
    columns["extra"] = {**_extra(given), **sender}
    return columns


def _event_type(given: Mapping[str, Any]) -> str:
    if "event_type" not in given:
        raise BadEvent(Reason.MISSING, "event_type", "Give an event_type.")
    name = _text(given["event_type"], "event_type", MAX_TEXT["shop"]).strip().lower()
    name = TYPE_NAMES.get(name, name)
    if name not in EVENT_TYPES:
        raise BadEvent(Reason.UNKNOWN_EVENT_TYPE, "event_type", f"event_type is one of {', '.join(EVENT_TYPES)}.")
    return name


def _identifier(given: Mapping[str, Any], name: str) -> str:
    value = given[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # shops have numbered products and customers
    text = _text(value, name, MAX_TEXT[name])
    if privacy.has_email(text):
        raise BadEvent(Reason.PERSONAL_DATA, name, f"{name} holds an e-mail address. Send a pseudonym.")
    return text


def _text(value: Any, name: str, limit: int) -> str:
    if not isinstance(value, str):
        raise BadEvent(Reason.WRONG_TYPE, name, f"{name} is not text.")
    if len(value) > limit:
        raise BadEvent(Reason.TOO_LONG, name, f"{name} has {len(value)} characters, at most {limit} are taken.")
    if not value.isprintable() and (_CONTROL.search(value) or not _is_unicode(value)):
        raise BadEvent(Reason.BAD_CHARACTER, name, f"{name} holds a control character or half a surrogate pair.")
    if not value.strip():
        raise BadEvent(Reason.MISSING, name, f"{name} is blank.")
    return value


def _event_time(given: Mapping[str, Any], received_at: datetime) -> datetime:
    if "event_time" not in given:
        return received_at
    moment = _moment(given["event_time"])
    if moment.timestamp() < _EARLIEST or moment > received_at + MAX_AHEAD:
        raise BadEvent(Reason.TIME_OUT_OF_RANGE, "event_time", "event_time lies before 1973 or more than a day ahead.")
    return moment


def _moment(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _not_a_time()
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if not _EARLIEST <= value < _LATEST:
            raise BadEvent(Reason.TIME_OUT_OF_RANGE, "event_time", "event_time is no time between 1973 and 5138.")
        return datetime.fromtimestamp(value if value < _MILLISECONDS else value / 1000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _not_a_time() from error


def _not_a_time() -> BadEvent:
    message = "event_time is ISO 8601, or seconds or milliseconds since 1970."
    return BadEvent(Reason.NOT_A_TIME, "event_time", message)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"  # in place of +00:00


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    except (ValueError, OverflowError):
        pass
    raise BadEvent(Reason.NOT_A_NUMBER, name, f"{name} is not a finite number.")


def _schema_version(given: Mapping[str, Any]) -> int:
    version = given.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BadEvent(Reason.UNKNOWN_SCHEMA_VERSION, "schema_version", f"schema_version is {SCHEMA_VERSION}.")
    return SCHEMA_VERSION


def _extra(given: Mapping[str, Any]) -> dict[str, Any]:
    extra = given.get("extra", {})
    if not isinstance(extra, dict):
        raise BadEvent(Reason.WRONG_TYPE, "extra", "extra is not a JSON object.")
    if not extra and given.keys() <= _KNOWN:
        return {}
    others = {name: value for name, value in given.items() if name not in _KNOWN}
    # One level is the event's own; fields of `extra` lie one level deeper than those beside it.
    _walk(extra, MAX_DEPTH - 1)
    _walk(others, MAX_DEPTH)
    masked: dict[str, Any] = privacy.masked_tree(extra | others)
    return masked


def _walk(value: Any, levels: int) -> None:
    """Refuse what no JSON parser downstream is sure to read."""
    if isinstance(value, str):
        if "\0" in value or not _is_unicode(value):
            raise BadEvent(Reason.BAD_CHARACTER, "extra", "extra holds a NUL or half a surrogate pair.")
    elif isinstance(value, (dict, list)):
        if levels == 0:
            raise BadEvent(Reason.TOO_DEEP, "", f"The event is nested deeper than {MAX_DEPTH} levels.")
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            _walk(part, levels - 1)
    elif isinstance(value, (int, float)) and not abs(value) < 2**63:
        raise BadEvent(Reason.NOT_A_NUMBER, "extra", "extra holds a number beyond 64 bits.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        return False
    return True
