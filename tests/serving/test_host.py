"""The endpoint host answers every request, and restores its endpoints after a crash."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from boat.errors import EndpointError
from boat.kinds import INTENT, RECOMMEND
from boat.models.sessions import instances
from boat.serving import ServedModel
from boat.serving.endpoints import Endpoints
from boat.serving.host import MAX_BODY_BYTES, MAX_WAITING, Host
from boat.serving.local import LocalServing
from tests.serving.running_host import free_port, running_host

SESSION = [{"event_type": "detail", "product_id": "p1", "event_time": 1.0}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    from tests.serving import tiny_models as tiny

    folder = tmp_path_factory.mktemp("models")
    versions = {
        str(number): tiny.export(folder / str(number), "recommend", tiny.recommending(f"v{number}"), str(number))
        for number in (1, 2, 3)
    }
    return versions | {
        "intent": tiny.export(folder / "intent", "intent", tiny.intending(0.25)),
        "unsound": tiny.export(folder / "unsound", "intent", tiny.intending(float("nan"))),
    }


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, models: dict[str, ServedModel]) -> Iterator[httpx.Client]:
    """Start a host with both endpoints and yield a client."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running_host(tmp_path_factory.mktemp("host"), port), httpx.Client(base_url=address, timeout=30) as client:
        LocalServing(f"local:{address}").update(RECOMMEND, models["1"])
        LocalServing(f"local:{address}").update(INTENT, models["intent"])
        yield client


def ask(client: httpx.Client, body: Any, endpoint: str = RECOMMEND) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/endpoints/{endpoint}/invocations", content=content)


def test_an_answer_has_the_headers_of_the_real_service(client: httpx.Client) -> None:
    runtime = LocalServing(f"local:{client.base_url}").runtime()
    body = json.dumps({"instances": instances([SESSION])})
    answer = runtime.invoke_endpoint(EndpointName=RECOMMEND, ContentType="application/json", Body=body)
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "version=1"
    assert json.loads(answer["Body"].read())["predictions"][0]["product_id"][:2] == ["p1", "v1-0"]


def test_a_wrong_request_gets_boto3s_error(client: httpx.Client) -> None:
    runtime = LocalServing(f"local:{client.base_url}").runtime()
    with pytest.raises(runtime.exceptions.ModelError, match="The body is not JSON"):
        runtime.invoke_endpoint(EndpointName=RECOMMEND, Body=b"{")
    with pytest.raises(runtime.exceptions.ValidationError, match="Endpoint boat-x of account local not found"):
        runtime.invoke_endpoint(EndpointName="boat-x", Body=b"{}")


def test_the_container_protocol_answers(client: httpx.Client) -> None:
    body = {"instances": instances([SESSION])}
    assert client.get("/ping").status_code == 200
    assert client.post("/invocations", json=body).json()["predictions"][0]["product_id"][0] == "p1"
    assert client.post("/invocations?endpoint=boat-intent", json=body).json() == {"predictions": [0.25]}
    target = {"X-Amzn-SageMaker-Target-Model": INTENT}
    assert client.post("/invocations", json=body, headers=target).json() == {"predictions": [0.25]}


def test_sessions_of_0_and_10_000_events_get_an_answer(client: httpx.Client) -> None:
    for events in ([], SESSION * 10_000):
        response = ask(client, {"instances": instances([events])})
        assert response.status_code == 200
        assert len(response.json()["predictions"][0]["product_id"]) == 20


WELL_FORMED = instances([SESSION])[0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"instances":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON|inputs"),
        ([], "list .*instances"),
        ({"instances": {}}, "list .*instances"),
        ({"instances": []}, "no list of instances"),
        ({"instances": [1]}, "Instance 0 does not have the inputs"),
        ({"instances": [WELL_FORMED] * 1001}, "at most 1000"),
        ({"instances": [{**WELL_FORMED, "event_time": [float("nan")]}]}, "not a finite number"),
        ({"instances": [{**WELL_FORMED, "event_time": [10**400]}]}, "event_time"),
        ({"instances": [{**WELL_FORMED, "product_id": ["\ud800"]}]}, "product_id"),
        ({"instances": [{**WELL_FORMED, "product_id": [True]}]}, "'product_id' of instance 0, event 0 is a boolean"),
        ({"instances": [{**WELL_FORMED, "product_id": [["a"]]}]}, "'product_id' .* is a list"),
        ({"instances": [{**WELL_FORMED, "product_id": [{}]}]}, "'product_id' .* is an object"),
        ({"instances": [{**WELL_FORMED, "event_time": ["yesterday"]}]}, "'event_time' .* is not a time"),
        ({"instances": [{**WELL_FORMED, "product_id": ["a", "b"]}]}, "list of 1"),
        ({"instances": [{**WELL_FORMED, "more": ["a"]}]}, "inputs"),
    ],
)
def test_a_malformed_request_gets_the_reason(client: httpx.Client, body: Any, reason: str) -> None:
    response = ask(client, body)
    assert response.status_code == 400
    assert response.json()["OriginalStatusCode"] == 400
    assert re.search(reason, response.json()["message"])


def test_numbers_as_ids_and_texts_as_times_and_null_are_accepted(client: httpx.Client) -> None:
    two = {"event_type": ["Detail", "view"], "url": [None, ""], "event_time": ["2024-05-01T12:00:00Z", 1714564801000]}
    for product, product_id in ((355908, "355908"), (355908.0, "355908"), (7.5, "7.5"), (None, ""), ("p1", "p1")):
        response = ask(client, {"instances": [{**two, "product_id": [1, product]}]})
        assert response.status_code == 200, response.text
        assert response.json()["predictions"][0]["product_id"][0] == product_id


def test_a_body_that_is_too_large_gets_a_message(client: httpx.Client) -> None:
    response = ask(client, b" " * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert f"At most {MAX_BODY_BYTES}" in response.json()["message"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
EVENTS = st.lists(VALUES, max_size=3)
SESSIONS = st.fixed_dictionaries(
    {
        "event_type": EVENTS | st.lists(st.text(), max_size=3),
        "product_id": EVENTS | st.lists(st.text(), max_size=3),
        "url": EVENTS | st.lists(st.text(), max_size=3),
        "event_time": EVENTS | st.lists(st.floats() | st.integers(), max_size=3),
    }
)
BODIES = (
    st.binary()
    | VALUES.map(json.dumps).map(str.encode)
    | st.lists(SESSIONS | VALUES, max_size=3).map(lambda rows: json.dumps({"instances": rows}).encode())
)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, endpoint=st.sampled_from([RECOMMEND, INTENT]))
def test_no_invocation_gets_a_500(client: httpx.Client, body: bytes, endpoint: str) -> None:
    response = ask(client, body, endpoint)
    assert response.status_code in (200, 400)
    assert response.json().keys() >= ({"predictions"} if response.status_code == 200 else {"message"})


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
def test_no_control_request_gets_a_500(client: httpx.Client, body: bytes) -> None:
    assert client.put("/endpoints/boat-x", content=body).status_code in (400, 422)


@pytest.mark.parametrize("name", ["..", "a/../../b", "-x", "x" * 64, "böat", "%00"])
def test_the_name_of_an_endpoint_cannot_be_a_path(client: httpx.Client, name: str, models: dict[str, Any]) -> None:
    model = models["1"]
    fields = {"uri": model.uri, "digest": model.digest, "version": "1"}
    response = client.put(f"/endpoints/{quote(name, safe='')}", json=fields)
    assert response.status_code in (404, 405, 422)
    assert {endpoint["name"] for endpoint in client.get("/endpoints").json()["endpoints"]} == {RECOMMEND, INTENT}


def test_a_model_that_answers_nan_is_refused(client: httpx.Client, models: dict[str, ServedModel]) -> None:
    model = models["unsound"]
    fields = {"uri": model.uri, "digest": model.digest, "version": "9"}
    response = client.put(f"/endpoints/{INTENT}", json=fields)
    assert response.status_code == 422
    assert "gives wrong answers" in response.json()["message"]
    assert client.get(f"/endpoints/{INTENT}").json()["version"] == "1"


def test_an_endpoint_describes_its_model(client: httpx.Client, models: dict[str, ServedModel]) -> None:
    described = client.get(f"/endpoints/{RECOMMEND}").json()
    assert described["digest"] == models["1"].digest
    assert described["status"] == "InService"
    assert [endpoint["name"] for endpoint in client.get("/endpoints").json()["endpoints"]] == [INTENT, RECOMMEND]


def test_the_page_shows_a_working_request(client: httpx.Client) -> None:
    page = unescape(client.get("/").text)
    assert RECOMMEND in page
    body = page.split("-d '")[1].split("'")[0]
    assert ask(client, body.encode()).status_code == 200


def test_a_ping_is_fast_while_predictions_run(client: httpx.Client) -> None:
    body = json.dumps({"instances": instances([SESSION * 400] * 100)}).encode()
    assert len(body) < MAX_BODY_BYTES
    requests = [threading.Thread(target=ask, args=(client, body)) for _ in range(8)]
    for request in requests:
        request.start()
    slowest = 0.0
    while any(request.is_alive() for request in requests):
        start = time.perf_counter()
        assert client.get("/ping").status_code == 200
        slowest = max(slowest, time.perf_counter() - start)
    assert 0.0 < slowest < 1.0


def test_an_overloaded_host_answers_503_and_finishes_running_requests(
    tmp_path: Path, models: dict[str, ServedModel]
) -> None:
    endpoints = Endpoints(tmp_path)
    endpoints.update(RECOMMEND, models["1"])
    transport = httpx.ASGITransport(Host(endpoints, threads=1).app())
    body = json.dumps({"instances": instances([SESSION * 400] * 20)}).encode()

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://host", timeout=60) as client:
            address = f"/endpoints/{RECOMMEND}/invocations"
            return await asyncio.gather(*(client.post(address, content=body) for _ in range(MAX_WAITING + 100)))

    responses = asyncio.run(ask_all())
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= MAX_WAITING
    assert responses[statuses.index(503)].headers["x-amzn-ErrorType"] == "ServiceUnavailable"


@pytest.mark.parametrize("uri", ["models/model.tar.gz", "s3://bucket/model.tar.gz"])
def test_a_model_on_another_machine_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(EndpointError, match="not an absolute path"):
        Endpoints(tmp_path).update(RECOMMEND, ServedModel(uri, "ab" * 32, "1"))


def test_after_a_kill_the_champion_answers_and_the_previous_model_is_still_stored(
    tmp_path: Path, models: dict[str, ServedModel]
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running_host(tmp_path, port) as process:
        serving = LocalServing(f"local:{address}")
        for version in ("1", "2", "3"):
            serving.update(RECOMMEND, models[version])
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    folders = {folder.name for folder in (tmp_path / RECOMMEND).iterdir()}
    assert folders == {models["2"].digest, models["3"].digest}

    (tmp_path / INTENT).mkdir()
    state = json.loads((tmp_path / "endpoints.json").read_text())
    lost = {"uri": "/gone/model.tar.gz", "digest": "ab" * 32, "version": "7", "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "endpoints.json").write_text(json.dumps(state | {INTENT: lost}))
    with running_host(tmp_path, port), httpx.Client(base_url=address) as client:
        assert ask(client, {"instances": instances([SESSION])}).json()["predictions"][0]["product_id"][1] == "v3-0"
        assert client.get("/ping").json() == {"failed": [INTENT]}
        assert client.get(f"/endpoints/{INTENT}").json()["status"] == "Failed"
        assert serving.describe(INTENT) is None
        assert "could not be loaded" in ask(client, {"instances": []}, INTENT).json()["message"]
        serving.update(INTENT, models["intent"])
        assert client.get("/ping").status_code == 200
        assert serving.describe(RECOMMEND) == models["3"]


def test_a_rollback_to_the_stored_model_needs_no_archive(tmp_path: Path, models: dict[str, ServedModel]) -> None:
    endpoints = Endpoints(tmp_path)
    for version in ("1", "2"):
        endpoints.update(RECOMMEND, models[version])
    gone = ServedModel("/gone/model.tar.gz", models["1"].digest, "1")
    assert endpoints.update(RECOMMEND, gone).served == gone
    damaged = next((tmp_path / RECOMMEND / models["2"].digest).rglob("saved_model.pb"))
    damaged.write_bytes(b"damaged")
    assert endpoints.update(RECOMMEND, models["2"]).served == models["2"]


def test_a_state_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text("[1]")
    with pytest.raises(EndpointError, match=r"endpoints\.json"):
        Endpoints(tmp_path).restore()


def test_a_missing_host_is_named_with_the_command_that_starts_it() -> None:
    serving = LocalServing(f"local:http://127.0.0.1:{free_port()}")
    with pytest.raises(EndpointError, match=r"did not answer .* python -m boat\.serving\.host"):
        serving.describe(RECOMMEND)
