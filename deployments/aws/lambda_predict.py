"""`POST /predict` for the shop's page: return recommendations and the chance of a purchase for a session.

Request: `{"events": [{"event_type": "detail", "product_id": "…", "url": "…", "event_time": 1700000000.0}, …]}`, oldest
first. `boat.events` lists the accepted names and values. Other fields are ignored.
Answer: `{"recommendations": [{"product_id": "…", "score": 0.9}, …], "purchase": 0.03}`. The part
of an endpoint that does not answer is null. If neither endpoint answers, the status is 503.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from boat import events
from boat.errors import EndpointError
from boat.events import ValueProblem, is_missing
from boat.kinds import INTENT, RECOMMEND
from boat.models.sessions import SessionEvent, value
from boat.serving.base import invoke

MAX_EVENTS = 200
"""Only the newest events of a session are read. The longest real session has 206, and models read far fewer."""
MAX_TEXT = 2048
_TEXTS = ("event_type", "url", "query")
_COLUMNS = (*_TEXTS, "product_id", "event_time", "quantity")


class _BadRequestError(Exception):
    """A request that cannot be answered. The message is for its sender."""


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer an API Gateway request (payload format 2.0)."""
    try:
        session = _session(event)
    except _BadRequestError as error:
        return _response(400, {"error": str(error)})
    with ThreadPoolExecutor(2) as both:
        futures = [both.submit(_ask, endpoint, session) for endpoint in (RECOMMEND, INTENT)]
        recommended, purchase = (future.result() for future in futures)
    ranked = recommended and [
        {"product_id": product, "score": score}
        for product, score in zip(recommended["product_id"], recommended["score"], strict=True)
        if product
    ]
    status = 503 if ranked is None and purchase is None else 200
    return _response(status, {"recommendations": ranked, "purchase": purchase})


@cache
def _runtime() -> Any:
    import boto3
    from botocore.config import Config

    # The function has five seconds: after a slow connection, there is time for a second try.
    return boto3.client(
        "sagemaker-runtime", config=Config(connect_timeout=1, read_timeout=1.5, retries={"total_max_attempts": 2})
    )


def _ask(endpoint: str, session: list[SessionEvent]) -> Any:
    try:
        (answer,) = invoke(_runtime(), endpoint, [session])
    except EndpointError as error:
        print(json.dumps({"endpoint": endpoint, "error": str(error)}))  # Lambda stores printed lines as logs
        return None
    return answer


def _session(event: Mapping[str, Any]) -> list[SessionEvent]:
    try:
        body = event.get("body") or ""
        session = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)["events"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _BadRequestError('The body is not {"events": [...]}.') from error
    if not isinstance(session, list):
        raise _BadRequestError("`events` is not a list.")
    names_of = cache(events.candidates)  # most events of a session have the same fields
    return [_event(position, fields, names_of) for position, fields in enumerate(session)][-MAX_EVENTS:]


def _event(position: int, fields: Any, names_of: Callable[[tuple[str, ...]], dict[str, list[str]]]) -> SessionEvent:
    names = names_of(tuple(fields)) if isinstance(fields, dict) else {}
    raw = {column: _first(column, [fields[name] for name in names.get(column, ())]) for column in _COLUMNS}
    if raw["event_type"] is None:
        raise _BadRequestError(f"Event {position} has no event_type.")
    values = {column: _read(column, raw[column], position) for column in _COLUMNS}
    is_purchase = events.event_type(values["event_type"]) == "purchase"
    if is_purchase and values["quantity"] is not None and values["quantity"] <= 0:
        values["event_type"] = events.REFUND  # endpoints have no input for quantities
    return SessionEvent(**{column: values[column] for column in _COLUMNS if column != "quantity"})


def _first(column: str, values: Sequence[Any]) -> Any:
    """Return the first value that is not missing, or None."""
    is_text = column in _TEXTS
    for raw in values:
        is_empty = isinstance(raw, str) and (not raw.strip(events.BLANKS) if is_text else is_missing(raw))
        if raw is not None and not is_empty:
            return raw
    return None


def _read(column: str, raw: Any, position: int) -> Any:
    try:
        read = events.number(raw, events.MAX_QUANTITY) if column == "quantity" else value(column, raw)
    except ValueProblem as problem:
        raise _BadRequestError(f"{column} of event {position} {problem.message}.") from problem
    if isinstance(read, str) and (len(read) > MAX_TEXT or not _is_unicode(read)):
        raise _BadRequestError(f"{column} of event {position} is not a text of at most {MAX_TEXT} characters.")
    return read


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can contain half a surrogate pair
        return False
    return True


def _response(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
