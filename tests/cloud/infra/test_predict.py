"""`/predict` as API Gateway calls it, with models on an endpoint host that offers SageMaker Runtime."""

import base64
import importlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from boat.kinds import INTENT, RECOMMEND
from boat.serving import connect
from deployments.aws import package
from tests.serving.running_host import free_port, running_host

pytestmark = pytest.mark.cloud

EVENTS = [
    {"event_type": "pageview", "url": "/", "event_time": 1.0},
    {"event_type": "search", "query": "mug", "event_time": 1.5},
    {"event_type": "detail", "product_id": "blue-mug", "url": "/blue-mug", "event_time": 2.5},
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the Lambda package and return the folder."""
    folder = tmp_path_factory.mktemp("function")
    zipfile.ZipFile(BytesIO(package.functions()["PredictKey"].content)).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a host with both endpoints and yield its address. The answers of its models show their input."""
    from tests.serving.tiny_models import export, intending, recommending

    folder, port = tmp_path_factory.mktemp("host"), free_port()
    with running_host(folder / "state", port):
        url = f"http://127.0.0.1:{port}"
        serving = connect(f"local:{url}")
        serving.update(RECOMMEND, export(folder / "recommend", "recommend", recommending("shown")))
        serving.update(INTENT, export(folder / "intent", "intent", intending(0.25)))
        yield url


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Yield the Lambda module without cached clients of another test."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    module = importlib.import_module("deployments.aws.lambda_predict")
    module._runtime.cache_clear()
    yield module
    module._runtime.cache_clear()


def request(body: Any) -> dict[str, Any]:
    return {"version": "2.0", "routeKey": "POST /predict", "body": json.dumps(body), "isBase64Encoded": False}


def answered(function: Any, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    response = function.handler(event, None)
    assert response["headers"] == {"content-type": "application/json"}
    return response["statusCode"], json.loads(response["body"])


def test_a_session_gets_recommendations_and_its_purchase_intent(
    function: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", host)
    status, answer = answered(function, request({"events": EVENTS}))
    assert status == 200
    assert answer["purchase"] == pytest.approx(0.25)
    assert [recommendation["product_id"] for recommendation in answer["recommendations"]][:2] == ["blue-mug", "shown-0"]
    assert len(answer["recommendations"]) == 20


def test_a_body_in_base64_and_a_session_without_events_are_answered(
    function: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", host)
    event = request({"events": []})
    event |= {"body": base64.b64encode(event["body"].encode()).decode(), "isBase64Encoded": True}
    status, answer = answered(function, event)
    assert status == 200
    assert answer["recommendations"][0]["product_id"] == "shown-0", "an empty product is not shown"


def sessions_of(function: Any, *events: dict[str, Any]) -> list[dict[str, Any]]:
    session: list[dict[str, Any]] = function._session(request({"events": list(events)}))
    return session


def test_an_event_is_parsed_as_by_the_collector_and_the_loader(
    function: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", host)
    for event in (
        {"event_type": "view", "product_id": 355908, "event_time": 1714564800000},
        {"event": "Product Viewed", "sku": 355908.0, "timestamp": "2024-05-01T12:00:00Z", "colour": ["red"]},
        {"event_name": "view_item", "product_id": "undefined", "item_id": "355908", "ts": None},
        {"EVENT_TYPE": "Detail", "Product ID": "355908", "time": "(not set)", "url": None, "query": None},
    ):
        status, answer = answered(function, request({"events": [event]}))
        assert (status, answer.get("error")) == (200, None)
        assert answer["recommendations"][0]["product_id"] == "355908"


def test_times_in_any_notation_are_seconds_and_the_exact_name_comes_first(function: Any) -> None:
    events = sessions_of(
        function,
        {"event_type": "view", "event": "purchase", "timestamp": "2024-05-01 14:00:00+02:00", "item_id": "b"},
        {"event_type": "no such type", "product_id": "a", "sku": "b", "event_time": "1714564800000"},
    )
    assert [event["event_time"] for event in events] == [1714564800.0, 1714564800.0]
    assert [event["event_type"] for event in events] == ["view", "no such type"]
    assert [event["product_id"] for event in events] == ["b", "a"]


@pytest.mark.parametrize(
    ("quantity", "event_type"), [(2, "buy"), (None, "buy"), ("", "buy"), (-1, "refund"), ("0", "refund")]
)
def test_a_purchase_with_a_negative_quantity_is_a_refund(function: Any, quantity: Any, event_type: str) -> None:
    (event,) = sessions_of(function, {"event_type": "buy", "product_id": "a", "qty": quantity})
    assert event["event_type"] == event_type


def test_only_the_newest_events_of_a_long_session_are_sent(
    function: Any, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", host)
    endless = [{"event_type": "detail", "product_id": f"p{number}"} for number in range(5_000)]
    assert len(function._session(request({"events": endless}))) == function.MAX_EVENTS
    _, answer = answered(function, request({"events": endless}))
    assert answer["recommendations"][0]["product_id"] == "p4999"


def test_if_an_endpoint_is_down_the_other_part_is_answered(
    function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.serving.tiny_models import export, intending

    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{port}")
    with running_host(tmp_path / "state", port):
        serving = connect(f"local:http://127.0.0.1:{port}")
        serving.update(INTENT, export(tmp_path / "intent", "intent", intending(0.5)))
        status, answer = answered(function, request({"events": EVENTS}))
    assert (status, answer) == (200, {"recommendations": None, "purchase": 0.5})
    assert json.loads(capsys.readouterr().out)["endpoint"] == RECOMMEND


def test_without_any_endpoint_the_answer_is_503(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{free_port()}")
    status, answer = answered(function, request({"events": EVENTS}))
    assert (status, answer) == (503, {"recommendations": None, "purchase": None})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The body is not"),
        ("[]", "The body is not"),
        ("[" * 100_000, "The body is not"),
        ('{"events": 1}', "not a list"),
        ('{"events": [1]}', "Event 0 has no event_type"),
        ('{"events": [{"product_id": "a"}]}', "Event 0 has no event_type"),
        ('{"events": [{"event_type": " "}]}', "Event 0 has no event_type"),
        ('{"events": [{"event_type": 7}]}', "event_type of event 0 is int, not text"),
        ('{"events": [{"event_type": "detail", "product_id": true}]}', "product_id of event 0 is a boolean"),
        ('{"events": [{"event_type": "detail", "sku": ["a"]}]}', "product_id of event 0 is a list"),
        ('{"events": [{"event_type": "detail", "product_id": {}}]}', "product_id of event 0 is an object"),
        ('{"events": [{"event_type": "detail", "event_time": false}]}', "event_time of event 0 is a boolean"),
        ('{"events": [{"event_type": "purchase", "quantity": "two"}]}', "quantity of event 0 is not a number"),
        ('{"events": [{"event_type": "detail", "product_id": "\\ud800"}]}', "product_id of event 0"),
        ('{"events": [{"event_type": "detail", "url": "' + "x" * 3000 + '"}]}', "url of event 0"),
        ('{"events": [{"event_type": "detail", "event_time": "now"}]}', "event_time of event 0"),
        ('{"events": [{"event_type": "detail", "event_time": NaN}]}', "event_time of event 0"),
        ('{"events": [{"event_type": "detail", "event_time": 1' + "0" * 400 + "}]}", "event_time of event 0"),
    ],
)
def test_an_invalid_request_gets_the_reason(function: Any, body: str, message: str) -> None:
    status, answer = answered(function, {"body": body})
    assert status == 400
    assert message in answer["error"]


def test_the_package_needs_only_boto3(unpacked: Path, host: str) -> None:
    code = (
        "import sys, json; sys.path.insert(0, '.'); import lambda_predict, boat; "
        f"event = {request({'events': EVENTS})!r}; answer = lambda_predict.handler(event, None); "
        "foreign = {'numpy', 'pandas', 'pyarrow', 'prefect', 'tensorflow'} & set(sys.modules); "
        "print(json.dumps([boat.__file__, answer['statusCode'], sorted(foreign)]))"
    )
    environment = {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": host,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=unpacked, env=environment, capture_output=True, text=True, check=True
    )
    file, status, foreign = json.loads(done.stdout)
    assert Path(file).is_relative_to(unpacked)
    assert (status, foreign) == (200, [])
