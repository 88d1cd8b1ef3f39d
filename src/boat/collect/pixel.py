"""`GET /collect?...`: one hit in the parameters of Google Analytics, for pages without scripts.

| parameter | becomes |
|---|---|
| `tid` | `shop` |
| `cid` | `client_id` |
| `sid` | `session_id` |
| `t` | `event_type`, where there is no `pa`: `pageview` |
| `pa` | `event_type`: `detail`, `click`, `add`, `remove` or `purchase` |
| `pr1id`, `pr1pr`, `pr1qt`, … `pr200id` | `product_id`, `price`, `quantity`: one event a product |
| `dl`, or `dh` and `dp` | `url` |
| `qt` | milliseconds since it happened |
| `ti`, `tr`, `tt`, `ts` | `transaction_id`, `revenue`, `tax`, `shipping` in `extra` |
| `eid` | `event_id`, with the product's number behind it where there are more |

`v`, `z`, `uip` and `ua` are dropped; every other parameter (`ec`, `ea`, `pr1nm` as `nm` …) is kept in `extra`.
"""

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from boat.collect.judge import BadEvent, Reason

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
MAX_PRODUCTS = 200
MAX_QUEUE = timedelta(hours=4)

_PRODUCT = re.compile(r"pr([1-9]\d{0,2})([a-z]{2}[a-z0-9]{0,4})")
_COLUMNS = {"tid": "shop", "cid": "client_id", "sid": "session_id", "eid": "event_id", "dl": "url"}
_OF_PRODUCT = {"id": "product_id", "pr": "price", "qt": "quantity"}
_EXTRA = {"ti": "transaction_id", "tr": "revenue", "tt": "tax", "ts": "shipping"}
_DROPPED = {"v", "z", "uip", "ua", "t", "pa", "qt", "dh", "dp"}


def events(query: str, received_at: datetime) -> list[dict[str, Any]]:
    """The events of a hit, as if they had come as JSON.

    Raises:
        BadEvent: The query says nothing, or no time.
    """
    given = dict(parse_qsl(query, max_num_fields=1000))
    if not given:
        raise BadEvent(Reason.MISSING, "event_type", "The query is empty.")
    hit: dict[str, Any] = {column: given[name] for name, column in _COLUMNS.items() if name in given}
    hit["event_type"] = given.get("pa") or given.get("t") or "pageview"
    hit["event_time"] = (received_at - _queued(given)).isoformat()
    hit.setdefault("url", given.get("dh", "") + given.get("dp", ""))
    others = {
        _EXTRA.get(name, name): value
        for name, value in given.items()
        if name not in _COLUMNS and name not in _DROPPED and not _PRODUCT.fullmatch(name)
    }
    products = _products(given)
    if not products:
        return [{**hit, "extra": others}]
    return [
        {**hit, **product, "extra": others | product["extra"], **_numbered(hit, number, len(products))}
        for number, product in products.items()
    ]


def _numbered(hit: Mapping[str, Any], number: int, products: int) -> dict[str, Any]:
    return {"event_id": f"{hit['event_id']}-{number}"} if products > 1 and "event_id" in hit else {}


def _queued(given: Mapping[str, str]) -> timedelta:
    text = given.get("qt", "0")
    if not text.isascii() or not text.isdigit() or int(text[:12]) > MAX_QUEUE / timedelta(milliseconds=1):
        raise BadEvent(Reason.NOT_A_TIME, "event_time", "qt is not a number of milliseconds up to four hours.")
    return timedelta(milliseconds=int(text))


def _products(given: Mapping[str, str]) -> dict[int, dict[str, Any]]:
    products: dict[int, dict[str, Any]] = {}
    for name, value in given.items():
        match = _PRODUCT.fullmatch(name)
        if match and int(match[1]) <= MAX_PRODUCTS:
            product = products.setdefault(int(match[1]), {"extra": {}})
            column = _OF_PRODUCT.get(match[2])
            (product if column else product["extra"])[column or match[2]] = value
    return dict(sorted(products.items()))
