"""`/collect` behind API Gateway: the local collector's core, with S3 as its disk. `boat.collect` defines the requests.

Each request becomes one landing file. It is stored in the bucket before the answer is sent. Each running instance of
the function has its own rate limits, list of used signatures and salt of addresses. API Gateway throttles all instances
together, and the loader counts a repeated event once.
"""

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from boat import settings
from boat.collect import Collector, CollectRequest, CollectResult, Policy, Refusal
from boat.collect.journal import EVENTS, LETTERS, file_name, relative_path
from boat.errors import SettingError


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer an API Gateway request (payload format 2.0)."""
    request = _request(event)
    collector = _collector()
    result = collector.early(request) or collector.take(request)
    try:
        _store(result)
    except _storage_errors() as error:
        print(json.dumps({"error": str(error)}))  # Lambda stores printed lines as logs
        refusal = Refusal(503, "storage_unavailable", "The events could not be stored.", {"retry-after": "5"})
        result = collector.refused(request, refusal)
    return {
        "statusCode": result.status,
        "headers": dict(result.headers),
        "body": base64.b64encode(result.content).decode(),
        "isBase64Encoded": True,
    }


@cache
def _collector() -> Collector:
    config = settings.load_collector()
    location = urlsplit(config.landing)
    if location.scheme != "s3" or not location.netloc:
        raise SettingError(
            f"BOAT_COLLECT_LANDING is {config.landing!r}, which is not a bucket.", "Write it like s3://BUCKET/PREFIX."
        )
    return Collector(Policy(config.origins, config.secrets, shops=config.shops))


@cache
def _s3() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2}))


def _storage_errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


def _request(event: Mapping[str, Any]) -> CollectRequest:
    http = event["requestContext"]["http"]
    body = event.get("body") or ""
    content = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    return CollectRequest(http["method"], event.get("rawQueryString", ""), headers, http["sourceIp"], content)


def _store(result: CollectResult) -> None:
    location = urlsplit(settings.load_collector().landing)
    for kind, lines in ((EVENTS, result.accepted), (LETTERS, result.failed)):
        if lines:
            key = "/".join(filter(None, (location.path.strip("/"), "events", relative_path(file_name(kind)))))
            # If two instances choose the same name, the second one fails and its sender sends again.
            _s3().put_object(Bucket=location.netloc, Key=key, Body=lines, IfNoneMatch="*")
