"""`/collect` as API Gateway calls it, with boto3 and an emulated S3."""

import base64
import gzip
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest

from boat import raw_log
from boat.collect.pixel import GIF
from boat.errors import SettingError
from boat.warehouse import connect
from deployments.aws import lambda_collect, package, template
from tests.cloud.infra.conftest import aws, moto_url  # noqa: F401 - fixtures
from tests.collect.events import GOOD

pytestmark = pytest.mark.cloud
BUCKET = "landing"


@pytest.fixture
def s3(aws: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:  # noqa: F811
    """Create an empty landing bucket, set the variables of the function, and yield the S3 client."""
    monkeypatch.setenv("BOAT_COLLECT_LANDING", f"s3://{BUCKET}/")
    monkeypatch.setenv("BOAT_COLLECT_ORIGINS", "https://mugs.example")
    client = aws.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for cached in (lambda_collect._collector, lambda_collect._s3):
        cached.cache_clear()
    yield client
    for cached in (lambda_collect._collector, lambda_collect._s3):
        cached.cache_clear()


def ask(method: str = "POST", body: str = "", query: str = "", packed: bool = False, **headers: str) -> dict[str, Any]:
    """Call the function with an API Gateway event (payload format 2.0) and return its answer."""
    event = {
        "version": "2.0",
        "rawQueryString": query,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "requestContext": {"http": {"method": method, "sourceIp": "203.0.113.77"}},
        "body": body,
        "isBase64Encoded": packed,
    }
    return lambda_collect.handler(event, None)


def content(answer: dict[str, Any]) -> bytes:
    assert answer["isBase64Encoded"]
    return base64.b64decode(answer["body"])


def stored_lines(s3: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each object in the bucket."""
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    read = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode() for key in keys}
    return {key: [json.loads(line) for line in text.splitlines()] for key, text in read.items()}


def test_a_batch_becomes_a_landing_file_and_its_bad_event_a_dead_letter(s3: Any) -> None:
    answer = ask(body=json.dumps([GOOD, {"event_type": "add"}]), content_type="application/json")
    assert answer["statusCode"] == 200
    assert json.loads(content(answer))["accepted"] == 1
    objects = stored_lines(s3)
    letters, events = sorted(objects, key=lambda key: "dead-letter" not in key)
    assert events.startswith("events/20")
    assert objects[events][0]["product_id"] == "blue-mug"
    assert letters.startswith("events/.dead-letter/20")
    assert objects[letters][0]["reason"] == "missing"


def test_files_of_the_function_are_loaded_from_the_uri_of_the_stack(s3: Any, tmp_path: Path) -> None:
    ask(body=json.dumps([GOOD, {"event_type": "add"}]))
    ask(body=json.dumps(GOOD))  # the page got no answer and sends the event again
    warehouse = connect(f"duckdb:///{tmp_path}/warehouse.duckdb")
    uri = template.load()["Outputs"]["LandingUri"]["Value"]["Fn::Sub"].replace("${Landing}", BUCKET)
    report = raw_log.load(warehouse, uri)
    assert (report.received, report.accepted, report.duplicate, report.failed) == (3, 1, 1, 1)
    assert raw_log.load(warehouse, uri).received == 0


def test_a_gzipped_body_and_a_pixel_are_accepted(s3: Any) -> None:
    packed = base64.b64encode(gzip.compress(json.dumps(GOOD).encode())).decode()
    assert ask(body=packed, packed=True, content_encoding="gzip")["statusCode"] == 200
    pixel = ask("GET", query="v=1&t=pageview&cid=1.2&tid=mugs")
    assert content(pixel) == GIF
    assert pixel["headers"]["content-type"] == "image/gif"
    form = base64.b64encode(b"v=2&cid=1.2&en=page_view").decode()
    assert ask(body=form, packed=True, content_type="application/x-www-form-urlencoded")["statusCode"] == 200
    assert ask(query="v=2&tid=G-ABC&cid=1.2&en=page_view")["statusCode"] == 200
    assert len(stored_lines(s3)) == 4


def test_events_of_a_page_on_another_origin_are_not_stored(s3: Any) -> None:
    assert ask(body=json.dumps(GOOD), origin="https://elsewhere.example")["statusCode"] == 403
    assert stored_lines(s3) == {}


def test_an_origin_is_compared_in_the_notation_of_browsers(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOAT_COLLECT_ORIGINS", "https://Mugs.example:443/")
    assert ask(body=json.dumps(GOOD), origin="https://mugs.example")["statusCode"] == 200


@pytest.mark.parametrize(
    ("variable", "value"), [("BOAT_COLLECT_ORIGINS", "mugs.example"), ("BOAT_COLLECT_LANDING", "landing")]
)
def test_an_invalid_setting_is_named(s3: Any, variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match=variable):
        ask(body=json.dumps(GOOD))


def test_an_event_that_cannot_be_stored_is_not_acknowledged(s3: Any) -> None:
    s3.delete_bucket(Bucket=BUCKET)
    answer = ask(body=json.dumps(GOOD))
    assert answer["statusCode"] == 503
    assert json.loads(content(answer))["error"] == "storage_unavailable"


@pytest.fixture
def lambda_python(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a Python with only the unpacked function and boto3, as on Lambda."""
    function, runtime = tmp_path / "function", tmp_path / "runtime"
    zipfile.ZipFile(BytesIO(package.functions()["CollectKey"].content)).extractall(function)
    runtime.mkdir()
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"):
        origin = Path(importlib.util.find_spec(name).origin)
        (runtime / (origin.name if name == "six" else name)).symlink_to(origin if name == "six" else origin.parent)
    return {"PYTHONPATH": f"{function}{os.pathsep}{runtime}"}


def test_the_package_is_complete(s3: Any, lambda_python: dict[str, str]) -> None:
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1 Version/17.4 Mobile Safari/604.1"
    event = {
        "version": "2.0",
        "rawQueryString": "",
        "headers": {"User-Agent": phone, "Content-Type": "text/plain"},
        "requestContext": {"http": {"method": "POST", "sourceIp": "203.0.113.77"}},
        "body": json.dumps(GOOD),
        "isBase64Encoded": False,
    }
    code = f"import lambda_collect; print(lambda_collect.handler({event!r}, None)['statusCode'])"
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "BOAT_"))}
    command = [sys.executable, "-S", "-c", code]  # -S: without the packages of this environment
    done = subprocess.run(command, env={**inherited, **lambda_python}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    ((row,),) = stored_lines(s3).values()
    assert row["extra"]["os"] == "iOS"
    assert row["extra"]["device"] == "iPhone"
