"""`POST /predict` for the shop's page: a session's events in, what to show and how likely it is to buy out.

Request: `{"events": [{"event_type": "detail", "product_id": "…", "url": "…", "event_time": 1700000000.0}, …]}`, oldest
first.
Answer: `{"recommendations": [{"product_id": "…", "score": 0.9}, …], "purchase": 0.03}`; a part whose endpoint does not
answer is null, and only if both are is the status 503: a page without recommendations is better than no page.
"""

import base64
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from boat.errors import EndpointError
from boat.models.sessions import SessionEvent
from boat.serving.base import invoke
from boat.settings import INTENT, RECOMMEND

MAX_EVENTS = 200
"""The newest of a session; real sessions have 206 at most, and models read far fewer."""
MAX_TEXT = 2048
_TEXTS = ("event_type", "product_id", "url", "query")


class _BadRequestError(Exception):
    """What is wrong with a request, for its sender to read."""


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer an API Gateway request (payload format 2.0)."""
    try:
        session = _session(event)
    except _BadRequestError as error:
        return _response(400, {"error": str(error)})
    with ThreadPoolExecutor(2) as both:
        asked = [both.submit(_ask, endpoint, session) for endpoint in (RECOMMEND, INTENT)]
        recommended, purchase = (future.result() for future in asked)
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

    # Within the function's five seconds, one slow connection leaves time for a second try.
    return boto3.client(
        "sagemaker-runtime", config=Config(connect_timeout=1, read_timeout=1.5, retries={"total_max_attempts": 2})
    )


def _ask(endpoint: str, session: list[SessionEvent]) -> Any:
    try:
        (answer,) = invoke(_runtime(), endpoint, [session])
    except EndpointError as error:
        print(json.dumps({"endpoint": endpoint, "error": str(error)}))  # Lambda keeps what is printed
        return None
    return answer


def _session(event: Mapping[str, Any]) -> list[SessionEvent]:
    try:
        body = event.get("body") or ""
        events = json.loads(base64.b64decode(body) if event.get("isBase64Encoded") else body)["events"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _BadRequestError('The body is not {"events": [...]}.') from error
    if not isinstance(events, list):
        raise _BadRequestError("`events` is not a list.")
    return [_event(position, given) for position, given in enumerate(events)][-MAX_EVENTS:]


def _event(position: int, given: Any) -> SessionEvent:
    if not isinstance(given, dict) or not given.get("event_type"):
        raise _BadRequestError(f"Event {position} has no event_type.")
    for name in _TEXTS:
        text = given.get(name, "")
        if not isinstance(text, str) or len(text) > MAX_TEXT or not _is_unicode(text):
            raise _BadRequestError(f"{name} of event {position} is not a text of at most {MAX_TEXT} characters.")
    if not _is_moment(given.get("event_time", 0.0)):
        raise _BadRequestError(f"event_time of event {position} is not a number of seconds.")
    return {
        "event_type": given["event_type"],
        "product_id": given.get("product_id", ""),
        "url": given.get("url", ""),
        "query": given.get("query", ""),
        "event_time": float(given.get("event_time", 0.0)),
    }


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        return False
    return True


def _is_moment(value: Any) -> bool:
    try:
        return not isinstance(value, (bool, str)) and math.isfinite(value)
    except (TypeError, OverflowError):  # a list; a whole number of four hundred digits
        return False


def _response(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
