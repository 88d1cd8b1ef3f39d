"""Hits of Google Analytics, Universal (`v=1`) and 4 (`v=2`), by GET or POST, parsed as events.

A hit is a set of parameters: the query of a GET, or the query and the form-encoded body of a POST. A body of several
lines is a batch: each line is a hit, and the query's parameters belong to all of them.

| parameter | becomes |
|---|---|
| `tid` | `shop`; a property id such as `G-…` or `UA-…` stays in `extra` unless a shop has that name |
| `cid`, `uid` | `client_id`; `uid` is `user_id` in `extra` if both are there |
| `sid` | `session_id` |
| `eid` | `event_id`, followed by the product's number if there are several (not Google's) |
| `dl`, or `dh` and `dp` | `url` |
| `cu` | `currency` in `extra` |
| Universal: `pa`, else `t` | `event_type`; `t=item` is a purchase, `t=transaction` and a bare `t=event` are not used |
| Universal: `pr1id` (else `pr1nm`), `pr1pr`, `pr1qt`, … `pr200id` | `product_id`, `price`, `quantity`: an event each |
| Universal: `ic` (else `in`), `ip`, `iq` of `t=item` | `product_id`, `price`, `quantity` |
| Universal: `qt` | milliseconds since it happened |
| Universal: `ti`, `tr`, `tt`, `ts` | `transaction_id`, `revenue`, `tax`, `shipping` in `extra` |
| 4: `en` | `event_type` |
| 4: `pr1` … `pr200`, such as `idA1~nmMug~pr9.5~qt2` | the same: an event each |
| 4: `ep.NAME`, `epn.NAME` | the column that NAME is a name of: `search_term` is `query`; else `NAME` in `extra` |
| 4: `epn.value` of a purchase or refund | `revenue` in `extra` |

Transport parameters (`v`, `z`, `_p`, `_s` …), addresses and user agents are dropped. Every other parameter goes to
`extra`. The parameters of products lose their number there (`pr1nm` is `nm`).
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from boat import events
from boat.collect.body import MAX_EVENT_BYTES, MAX_EVENTS, IncomingEvent, RefusedBody
from boat.collect.validation import BadEvent, CollectReason

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
MAX_PRODUCTS = 200
MAX_QUEUE = timedelta(hours=4)
MAX_SHARED = 8192
"""Most characters that all events of a request share. It bounds the stored size of a request."""

_MAX_PARAMETERS = 1000
_JSON_STARTS = (b"{", b"[")
_PROPERTY = re.compile(r"(?:UA|G|GT|GTM|AW|DC)-[A-Z0-9-]+")
_COLUMNS = {"cid": "client_id", "uid": "user_id", "sid": "session_id", "eid": "event_id", "dl": "url"}
_TO_EXTRA = {"cu": "currency", "ti": "transaction_id"}
_USER_AGENT_HINTS = ("", "a", "b", "fvl", "m", "mb", "p", "pv", "w")
_DROPPED = frozenset({"v", "z", "tid", "dh", "dp", "uip"} | {f"ua{hint}" for hint in _USER_AGENT_HINTS})
_OF_PRODUCT = {"id": "product_id", "pr": "price", "qt": "quantity"}
_PRODUCT_TYPES = frozenset({*events.PRODUCT_EVENT_TYPES, events.REFUND})

_NOT_USED = "event"
"""A hit type of Universal Analytics that `boat.events` lists as unused."""
_ACTIONS = {"checkout": _NOT_USED, "checkout_option": _NOT_USED}
_HIT_TYPES = {"item": "purchase", "transaction": _NOT_USED, "appview": "pageview"}
_UNIVERSAL_PRODUCT = re.compile(r"pr([1-9]\d{0,2})([a-z]{2}[a-z0-9]{0,4})")
_UNIVERSAL_DROPPED = frozenset({"t", "pa", "qt"})
_UNIVERSAL_AMOUNTS = {"tr": "revenue", "tt": "tax", "ts": "shipping"}
_OF_ITEM = {"ic": "product_id", "ip": "price", "iq": "quantity"}

_GA4_PRODUCT = re.compile(r"pr([1-9]\d{0,2})")
_GA4_PART = re.compile(r"(?:[^~]|~~)+")  # a tilde inside a value is doubled
_ENGAGEMENT = "_et"
_PARAMETER_TIMES = ("event_time", "event_timestamp", "timestamp")
_PARAMETER_COLUMNS = frozenset({"event_id", "query", "product_id", "price", "quantity"})


@dataclass
class _Hit:
    """A parsed hit.

    Attributes:
        fields: Columns that all its events share.
        extra: Content of the column `extra` that all its events share.
        products: Columns and `extra` of each product, by its number.
    """

    fields: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)
    products: dict[int, dict[str, Any]] = field(default_factory=dict)


def is_hit(query: str, content: bytes) -> bool:
    """Return whether a POST is a hit or a batch of hits: it has a version and a property, client or event.

    JSON is never a hit.
    """
    if is_json(content):
        return False
    line = re.split(rb"[\r\n]", content.lstrip()[:MAX_EVENT_BYTES], maxsplit=1)[0]
    try:
        parameters = _parameters(_joined(query, line.decode("utf-8", "replace")))
    except ValueError:
        return False
    return parameters.get("v") in {"1", "2"} and not parameters.keys().isdisjoint(("tid", "cid", "en", "t"))


def is_json(content: bytes) -> bool:
    """Return whether a body begins like JSON."""
    return content[:1] in _JSON_STARTS or content.lstrip()[:1] in _JSON_STARTS


def hits(query: str, content: bytes, received_at: datetime, shops: frozenset[str]) -> list[IncomingEvent]:
    """Return the events of all hits of a request, in the form of JSON events. A bad hit is one bad event.

    Raises:
        RefusedBody: There are too many events, or the query is too large.
    """
    if len(query) > MAX_EVENT_BYTES:
        raise RefusedBody(413, "too_large", f"The query has more than {MAX_EVENT_BYTES} bytes.")
    lines = [line for line in re.split(r"[\r\n]+", content.decode("utf-8", "replace")) if line.strip()] or [""]
    if len(lines) > 1 and len(query) > MAX_SHARED:
        raise RefusedBody(413, "too_large", f"The query of a batch has more than {MAX_SHARED} bytes.")
    incoming: list[IncomingEvent] = []
    for line in lines:
        incoming += _parse(_joined(query, line.strip()), received_at, shops)
        if len(incoming) > MAX_EVENTS:
            raise RefusedBody(413, "too_many_events", f"A request may have at most {MAX_EVENTS} events.")
    return incoming


def _parse(text: str, received_at: datetime, shops: frozenset[str]) -> list[IncomingEvent]:
    if len(text) > 2 * MAX_EVENT_BYTES:
        return [_too_large(text, f"The hit has more than {MAX_EVENT_BYTES} bytes.")]
    try:
        parameters = _parameters(text)
    except ValueError:
        return [_too_large(text, f"The hit has more than {_MAX_PARAMETERS} parameters.")]
    try:
        return [IncomingEvent(event) for event in _events(parameters, received_at, shops)]
    except BadEvent as flaw:
        return [IncomingEvent(parameters, flaw)]


def _too_large(text: str, message: str) -> IncomingEvent:
    return IncomingEvent(f"?{text}", BadEvent(CollectReason.TOO_LARGE, "", message))


def _joined(query: str, line: str) -> str:
    return f"{query}&{line}" if query and line else query or line


def _parameters(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, max_num_fields=_MAX_PARAMETERS))


def _events(parameters: Mapping[str, str], received_at: datetime, shops: frozenset[str]) -> Iterator[dict[str, Any]]:
    version = parameters.get("v") or ("2" if "en" in parameters else "1")
    if version == "2":
        hit = _ga4(parameters)
    elif version == "1":
        hit = _universal(parameters, received_at)
    else:
        raise BadEvent(
            CollectReason.UNKNOWN_SCHEMA_VERSION, "v", "v must be 1 (Universal Analytics) or 2 (Google Analytics 4)."
        )
    if property_id := parameters.get("tid"):
        is_shop = property_id in shops or not _PROPERTY.fullmatch(property_id)
        (hit.fields if is_shop else hit.extra)["shop" if is_shop else "tid"] = property_id
    hit.fields.setdefault("url", parameters.get("dh", "") + parameters.get("dp", ""))
    if events.event_type(hit.fields["event_type"]) not in _PRODUCT_TYPES or not hit.products:
        yield {**hit.fields, "extra": hit.extra}
        return
    yield from _by_product(hit)


def _by_product(hit: _Hit) -> Iterator[dict[str, Any]]:
    if len(hit.products) > 1 and sum(len(name) + len(str(value)) for name, value in hit.extra.items()) > MAX_SHARED:
        message = f"The parameters that all products of the hit share have more than {MAX_SHARED} characters."
        raise BadEvent(CollectReason.TOO_LARGE, "", message)
    for number, product in sorted(hit.products.items()):
        event_id = {"event_id": f"{hit.fields['event_id']}-{number}"} if _is_numbered(hit) else {}
        yield {**hit.fields, **product, "extra": hit.extra | product["extra"], **event_id}


def _is_numbered(hit: _Hit) -> bool:
    return len(hit.products) > 1 and "event_id" in hit.fields


def _universal(parameters: Mapping[str, str], received_at: datetime) -> _Hit:
    action, hit_type = parameters.get("pa"), parameters.get("t")
    name = _ACTIONS.get(action, action) if action else _HIT_TYPES.get(hit_type, hit_type) if hit_type else None
    if name is None:
        raise BadEvent(CollectReason.MISSING, "event_type", "The hit has neither a type (t) nor a product action (pa).")
    hit = _Hit({"event_type": name})
    if "qt" in parameters:
        hit.fields["event_time"] = (received_at - _queued(parameters["qt"])).isoformat()
    is_item = hit_type == "item" and not action
    for parameter, value in parameters.items():
        if match := _UNIVERSAL_PRODUCT.fullmatch(parameter):
            _put_product(hit, int(match[1]), match[2], value)
        elif is_item and parameter in _OF_ITEM:
            hit.fields[_OF_ITEM[parameter]] = value
        elif parameter in _UNIVERSAL_AMOUNTS:
            hit.extra[_UNIVERSAL_AMOUNTS[parameter]] = _amount(value)
        elif parameter not in _UNIVERSAL_DROPPED:
            _put(hit, parameter, value)
    if is_item and "in" in parameters:
        hit.fields.setdefault("product_id", parameters["in"])
        hit.products.clear()
    _name_products(hit)
    return hit


def _put(hit: _Hit, parameter: str, value: str) -> None:
    if parameter in _COLUMNS:
        hit.fields[_COLUMNS[parameter]] = value
    elif parameter not in _DROPPED:
        hit.extra[_TO_EXTRA.get(parameter, parameter)] = value


def _put_product(hit: _Hit, number: int, key: str, value: str) -> None:
    if number > MAX_PRODUCTS:
        return
    product = _product(hit, number)
    if key in _OF_PRODUCT:
        product[_OF_PRODUCT[key]] = value
    else:
        product["extra"][key] = value


def _product(hit: _Hit, number: int) -> dict[str, Any]:
    return hit.products.setdefault(number, {"extra": {}})


def _name_products(hit: _Hit) -> None:
    """Use the name of a product as its id if the id is missing: Google requires only one of them."""
    for product in hit.products.values():
        if events.identifier(product.get("product_id")) is None and "nm" in product["extra"]:
            product["product_id"] = product["extra"]["nm"]


def _queued(text: str) -> timedelta:
    if not text.isascii() or not text.isdigit() or int(text[:12]) > MAX_QUEUE / timedelta(milliseconds=1):
        raise BadEvent(CollectReason.NOT_A_TIME, "event_time", "qt is not a number of milliseconds up to four hours.")
    return timedelta(milliseconds=int(text))


def _ga4(parameters: Mapping[str, str]) -> _Hit:
    if "en" not in parameters:
        raise BadEvent(CollectReason.MISSING, "event_type", "The hit has no event name (en).")
    hit = _Hit({"event_type": parameters["en"]})
    for parameter, value in parameters.items():
        kind, _, name = parameter.partition(".")
        if kind in {"ep", "epn"} and name:
            hit.extra[name] = _amount(value) if kind == "epn" else value
        elif match := _GA4_PRODUCT.fullmatch(parameter):
            _put_compact(hit, int(match[1]), value)
        elif parameter != "en" and (not parameter.startswith("_") or parameter == _ENGAGEMENT):
            _put(hit, parameter, value)
    _lift_columns(hit)
    if events.event_type(hit.fields["event_type"]) in {"purchase", events.REFUND} and "value" in hit.extra:
        hit.extra.setdefault("revenue", hit.extra.pop("value"))
    _name_products(hit)
    return hit


def _lift_columns(hit: _Hit) -> None:
    """Move event parameters that are columns of the contract from `extra` to `fields`."""
    candidates = events.candidates(hit.extra)
    names = [name for column in _PARAMETER_COLUMNS for name in candidates.get(column, ())]
    for name in (*names, *(name for name in _PARAMETER_TIMES if name in hit.extra)):
        hit.fields.setdefault(name, hit.extra.pop(name))


def _put_compact(hit: _Hit, number: int, text: str) -> None:
    """Parse a product such as `idA1~nmMug~pr9.5~qt2~k0size~v0L`: keys of two characters, values up to a tilde."""
    if number > MAX_PRODUCTS:
        return
    parts = [part.replace("~~", "~") for part in _GA4_PART.findall(text)]
    values = {part[:2]: part[2:] for part in parts if len(part) > 2}
    for key, value in values.items():
        if key[0] == "k" and key[1].isdigit():
            _product(hit, number)["extra"][value] = values.get(f"v{key[1]}", "")
        elif not (key[0] == "v" and key[1].isdigit() and f"k{key[1]}" in values):
            _put_product(hit, number, key, value)


def _amount(text: str) -> float | str:
    try:
        amount = events.number(text, float("inf"))
    except events.ValueProblem:
        return text
    return text if amount is None else amount
