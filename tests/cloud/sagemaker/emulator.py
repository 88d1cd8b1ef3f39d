"""SageMaker's API on a real socket, as far as Boat uses it: `python -m tests.cloud.sagemaker.emulator --help`.

The control API (JSON 1.1) stores models, configurations and endpoints. It moves each endpoint through the states of the
real service, and starts "containers" on the endpoint host with the archive from S3. The runtime API forwards
invocations to the container of the live variant. During a canary, the new container gets its share. A
deployment is rolled back by an alarm of CloudWatch, or if its container does not start.

moto provides S3 and CloudWatch. `POST /_faults {"on": OPERATION | "*" | "deployment", "do": …, "times": 1}` injects a
fault. `do` is an error code or `drop` (done, but the connection is cut) for an operation, and `no_start`, `slow` or
`alarm:NAME` for a deployment. `GET /_state` returns the calls and the states of each endpoint.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import signal
import sys
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import uvicorn
from botocore.exceptions import ClientError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving.running_host import free_port, running_host

ACCOUNT = "123456789012"
MOVING = {"Creating", "Updating", "RollingBack", "Deleting"}
UNHEALTHY = (
    "The primary container for production variant {} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)
SLOW_SECONDS = 0.5

Body = dict[str, Any]


class SageMakerError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class RolledBackError(Exception):
    """A deployment that was rolled back, with the reason."""


@dataclass
class Endpoint:
    name: str
    config: str
    status: str = "Creating"
    pending: str | None = None
    failure: str | None = None
    container: str | None = None
    canary: tuple[str, float] | None = None
    """Container of the new variant and its share of the traffic."""
    history: list[str] = field(default_factory=list)

    def become(self, status: str) -> None:
        self.status = status
        self.history.append(status)


def tensorflow_models(names: Iterable[str]) -> set[str]:
    """Return the model folders for the start script of the stock image: they contain `DIGITS/saved_model.pb`."""
    matches = (re.fullmatch(r"(?:\./)?(?:(.*)/)?\d+/saved_model\.pb", name) for name in names)
    return {match[1] or "" for match in matches if match}


class SageMaker:
    """State and operations of the service."""

    def __init__(self, region: str, aws: str, host: str, state: Path, second: float) -> None:
        self._region, self._host, self._state, self._second = region, host, state, second
        account = {"aws_access_key_id": "service", "aws_secret_access_key": "service"}
        self._s3 = boto3.client("s3", endpoint_url=aws, region_name=region, **account)
        self._cloudwatch = boto3.client("cloudwatch", endpoint_url=aws, region_name=region, **account)
        self._http = httpx.AsyncClient(timeout=30)
        self.models: dict[str, Body] = {}
        self.configs: dict[str, Body] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[Body] = []
        self._deployments: set[asyncio.Task[None]] = set()
        self._random = random.Random(0)

    async def call(self, operation: str, body: Body) -> Body:
        self.calls[operation] += 1
        fault = self._fault({operation, "*"}, lambda do: do != "drop")
        if fault:
            raise SageMakerError(fault, f"{operation} was refused on purpose.")
        method: Callable[[Body], Body] | None = getattr(self, f"_{_snake(operation)}", None)
        if method is None:
            raise SageMakerError("UnknownOperationException", f"This emulator does not know {operation}.")
        return method(body)

    def drops(self, operation: str) -> bool:
        return self._fault({operation}, lambda do: do == "drop") is not None

    def _fault(self, on: set[str], which: Callable[[str], bool] = lambda do: True) -> str | None:
        for fault in self.faults:
            if fault["on"] in on and which(fault["do"]) and fault["times"] > 0:
                fault["times"] -= 1
                return str(fault["do"])
        return None

    # Models and configurations

    def _create_model(self, body: Body) -> Body:
        return {"ModelArn": self._store(self.models, "model", "model", body["ModelName"], body)}

    def _describe_model(self, body: Body) -> Body:
        return self._stored(self.models, "model", "model", body["ModelName"])

    def _list_models(self, body: Body) -> Body:
        return self._page("Models", self.models, body)

    def _delete_model(self, body: Body) -> Body:
        self._describe_model(body)
        del self.models[body["ModelName"]]
        return {}

    def _create_endpoint_config(self, body: Body) -> Body:
        for variant in body["ProductionVariants"]:
            self._describe_model(variant)
        kind = ("endpoint-config", "endpoint configuration")
        return {"EndpointConfigArn": self._store(self.configs, *kind, body["EndpointConfigName"], body)}

    def _describe_endpoint_config(self, body: Body) -> Body:
        return self._stored(self.configs, "endpoint-config", "endpoint configuration", body["EndpointConfigName"])

    def _list_endpoint_configs(self, body: Body) -> Body:
        return self._page("EndpointConfigs", self.configs, body)

    def _delete_endpoint_config(self, body: Body) -> Body:
        self._describe_endpoint_config(body)
        del self.configs[body["EndpointConfigName"]]
        return {}

    def _store(self, resources: dict[str, Body], kind: str, noun: str, name: str, body: Body) -> str:
        arn = self._arn(kind, name)
        if name in resources:
            raise SageMakerError("ValidationException", f'Cannot create already existing {noun} "{arn}".')
        key = "ModelArn" if kind == "model" else "EndpointConfigArn"
        resources[name] = {key: arn, "CreationTime": time.time(), **{k: v for k, v in body.items() if k != "Tags"}}
        self.tags[arn] = _plain_tags(body)
        return arn

    def _stored(self, resources: dict[str, Body], kind: str, noun: str, name: str) -> Body:
        if name not in resources:
            raise SageMakerError("ValidationException", f'Could not find {noun} "{self._arn(kind, name)}".')
        return resources[name]

    def _page(self, key: str, resources: dict[str, Body], body: Body) -> Body:
        entries = [entry for name, entry in sorted(resources.items()) if body.get("NameContains", "") in name]
        start = int(body.get("NextToken", 0))
        end = start + int(body.get("MaxResults", 10))
        return {key: entries[start:end]} | ({"NextToken": str(end)} if end < len(entries) else {})

    # Tags

    def _list_tags(self, body: Body) -> Body:
        tags = self.tags.get(body["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _add_tags(self, body: Body) -> Body:
        self.tags.setdefault(body["ResourceArn"], {}).update(_plain_tags(body))
        return self._list_tags(body)

    # Endpoints

    def _describe_endpoint(self, body: Body) -> Body:
        endpoint = self._endpoint(body)
        description = {
            "EndpointName": endpoint.name,
            "EndpointArn": self._arn("endpoint", endpoint.name),
            "EndpointConfigName": endpoint.config,
            "EndpointStatus": endpoint.status,
            "CreationTime": 0.0,
            "LastModifiedTime": time.time(),
        }
        if endpoint.pending:
            description["PendingDeploymentSummary"] = {"EndpointConfigName": endpoint.pending}
        return description | ({"FailureReason": endpoint.failure} if endpoint.failure else {})

    def _create_endpoint(self, body: Body) -> Body:
        name, arn = body["EndpointName"], self._arn("endpoint", body["EndpointName"])
        if name in self.endpoints:
            raise SageMakerError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
        self._describe_endpoint_config(body)
        endpoint = self.endpoints[name] = Endpoint(name, body["EndpointConfigName"])
        self.tags[arn] = _plain_tags(body)
        self._deploy(endpoint, "Creating", body["EndpointConfigName"], {})
        return {"EndpointArn": arn}

    def _update_endpoint(self, body: Body) -> Body:
        endpoint = self._endpoint(body)
        arn = self._arn("endpoint", endpoint.name)
        if endpoint.status in MOVING:
            raise SageMakerError("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
        if endpoint.status == "Failed":
            raise SageMakerError("ValidationException", f'Cannot update failed endpoint "{arn}".')
        new, deployment = self._describe_endpoint_config(body), body.get("DeploymentConfig", {})
        _check_deployment(self.configs[endpoint.config], new, deployment)
        self._deploy(endpoint, "Updating", body["EndpointConfigName"], deployment)
        return {"EndpointArn": arn}

    def _delete_endpoint(self, body: Body) -> Body:
        endpoint = self._endpoint(body)
        if endpoint.status in MOVING:
            raise SageMakerError("ValidationException", f"Cannot update in-progress endpoint {endpoint.name}.")
        endpoint.become("Deleting")

        async def forget() -> None:
            await self._sleep(5)
            del self.endpoints[endpoint.name]

        self._spawn(forget())
        return {}

    def _endpoint(self, body: Body) -> Endpoint:
        name = body["EndpointName"]
        if name not in self.endpoints:
            raise SageMakerError("ValidationException", f'Could not find endpoint "{self._arn("endpoint", name)}".')
        return self.endpoints[name]

    # Deployments

    def _deploy(self, endpoint: Endpoint, status: str, config: str, deployment: Body) -> None:
        endpoint.pending, endpoint.failure = config, None
        endpoint.become(status)
        self._spawn(self._deployed(endpoint, config, deployment))

    async def _deployed(self, endpoint: Endpoint, config: str, deployment: Body) -> None:
        try:
            container = await self._provision(config)
            if endpoint.container:
                await self._shift(endpoint, container, deployment)
        except RolledBackError as reason:
            await self._roll_back(endpoint, str(reason))
        else:
            endpoint.container, endpoint.config = container, config
            endpoint.canary = endpoint.pending = None
            endpoint.become("InService")

    async def _roll_back(self, endpoint: Endpoint, reason: str) -> None:
        endpoint.canary, endpoint.failure = None, reason
        if endpoint.container:
            endpoint.become("RollingBack")
            await self._sleep(20)
        endpoint.pending = None
        endpoint.become("InService" if endpoint.container else "Failed")

    async def _provision(self, config: str) -> str:
        """Download the archive, start a container with it, and return its name."""
        await self._sleep(20)
        fault = self._fault({"deployment"}, lambda do: do in ("no_start", "slow"))
        variant = self.configs[config]["ProductionVariants"][0]
        if fault == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        if fault == "no_start":
            raise RolledBackError(UNHEALTHY.format(variant["VariantName"]))
        uri = self.models[variant["ModelName"]]["PrimaryContainer"]["ModelDataUrl"]
        archive = await asyncio.to_thread(self._fetch, uri)
        container = f"c-{hashlib.sha256(archive.read_bytes()).hexdigest()}"
        fields = {"uri": str(archive), "digest": container.removeprefix("c-"), "version": config}
        started = await self._http.put(f"{self._host}/endpoints/{container[:40]}", json=fields)
        if started.status_code != 200:
            raise RolledBackError(UNHEALTHY.format(variant["VariantName"]))
        return container[:40]

    def _fetch(self, uri: str) -> Path:
        archive = self._state / f"{hashlib.sha256(uri.encode()).hexdigest()}.tar.gz"
        parts = urlsplit(uri)
        try:
            self._s3.download_file(parts.netloc, parts.path.lstrip("/"), str(archive))
            with tarfile.open(archive) as tar:
                folders = tensorflow_models(tar.getnames())
        except (ClientError, tarfile.TarError, OSError, EOFError) as error:
            raise RolledBackError(f"Failed to download model data for container from URL {uri}: {error}") from error
        if folders != {""}:
            raise RolledBackError(UNHEALTHY.format("AllTraffic"))
        return archive

    async def _shift(self, endpoint: Endpoint, container: str, deployment: Body) -> None:
        """Shift traffic to the new container in steps, and watch the alarms."""
        routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        alarms = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
        steps = [routing["CanarySize"]["Value"] / 100, 1.0] if routing.get("Type") == "CANARY" else [1.0]
        for share in steps:
            endpoint.canary = (container, share)
            fault = self._fault({"deployment"}, lambda do: do.startswith("alarm:"))
            if fault:
                await asyncio.to_thread(self._sound, fault.removeprefix("alarm:"))
            await self._bake(alarms, routing.get("WaitIntervalInSeconds", 0))

    async def _bake(self, alarms: list[str], seconds: int) -> None:
        end = time.monotonic() + seconds * self._second
        while alarms:
            description = await asyncio.to_thread(self._cloudwatch.describe_alarms, AlarmNames=alarms)
            gone_off = [alarm["AlarmName"] for alarm in description["MetricAlarms"] if alarm["StateValue"] == "ALARM"]
            if gone_off:
                raise RolledBackError(f"One or more configured alarms are in ALARM state: {', '.join(gone_off)}")
            if time.monotonic() >= end:
                return
            await asyncio.sleep(0.02)
        await self._sleep(seconds)

    def _sound(self, alarm: str) -> None:
        self._cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a fault, on purpose")

    # Runtime

    async def invoke(self, name: str, request: Request) -> Response:
        endpoint = self.endpoints.get(name)
        container = self._answering(endpoint) if endpoint else None
        if endpoint is None or container is None:
            message = f"Endpoint {name} of account {ACCOUNT} not found."
            return JSONResponse({"message": message}, 400, headers={"x-amzn-ErrorType": "ValidationError"})
        answer = await self._http.post(f"{self._host}/endpoints/{container}/invocations", content=await request.body())
        headers = {
            key: value for key, value in answer.headers.items() if key.startswith("x-amzn") or key == "content-type"
        }
        return Response(answer.content, answer.status_code, headers)

    def _answering(self, endpoint: Endpoint) -> str | None:
        if endpoint.canary and self._random.random() < endpoint.canary[1]:
            return endpoint.canary[0]
        return endpoint.container

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self._region}:{ACCOUNT}:{kind}/{name}"

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._second)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._deployments.add(task)
        task.add_done_callback(self._deployments.discard)

    async def close(self) -> None:
        await self._http.aclose()


def _check_deployment(old: Body, new: Body, deployment: Body) -> None:
    variants = [[variant["VariantName"] for variant in config["ProductionVariants"]] for config in (old, new)]
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    steps = 2 if routing.get("Type") == "CANARY" else 1
    total = steps * routing.get("WaitIntervalInSeconds", 0) + policy.get("TerminationWaitInSeconds", 0)
    wrong = ""
    if deployment and variants[0] != variants[1]:
        wrong = "The variant names of the old and the new endpoint configuration differ."
    elif steps == 2 and (
        routing["CanarySize"]["Value"] > 50 or new["ProductionVariants"][0]["InitialInstanceCount"] < 2
    ):
        wrong = "CanarySize must be at most 50 percent of the variant's instances."
    elif policy and total >= policy.get("MaximumExecutionTimeoutInSeconds", 14400):
        wrong = "MaximumExecutionTimeoutInSeconds must be larger than the total waiting time."
    if wrong:
        raise SageMakerError("ValidationException", wrong)


def _plain_tags(body: Body) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in body.get("Tags", [])}


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


class Server:
    """The HTTP interface."""

    def __init__(self, service: SageMaker, port: int) -> None:
        self._service = service
        routes = [
            Route("/", self.control, methods=["POST"]),
            Route("/endpoints/{name}/invocations", self.invoke, methods=["POST"]),
            Route("/_faults", self.faults, methods=["POST", "DELETE"]),
            Route("/_state", self.state),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        self._uvicorn = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False))

    def run(self) -> None:
        self._uvicorn.run()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self._service.close()

    async def control(self, request: Request) -> Response:
        operation = request.headers["x-amz-target"].removeprefix("SageMaker.")
        try:
            answer = await self._service.call(operation, json.loads(await request.body()))
        except SageMakerError as error:
            return JSONResponse({"__type": error.code, "message": error.message}, 400)
        if self._service.drops(operation):
            self._cut(request)
        return JSONResponse(answer, media_type="application/x-amz-json-1.1")

    def _cut(self, request: Request) -> None:
        for connection in self._uvicorn.server_state.connections:
            if connection.client == request.scope["client"]:
                connection.transport.abort()

    async def invoke(self, request: Request) -> Response:
        return await self._service.invoke(request.path_params["name"], request)

    async def faults(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._service.faults.clear()
        else:
            self._service.faults.append({"times": 1, **json.loads(await request.body())})
        return JSONResponse(self._service.faults)

    async def state(self, request: Request) -> Response:
        service = self._service
        history = {endpoint.name: endpoint.history for endpoint in service.endpoints.values()}
        stored = {"models": sorted(service.models), "configs": sorted(service.configs)}
        return JSONResponse({"calls": service.calls, "history": history, "faults": service.faults, **stored})


def main() -> None:
    parser = argparse.ArgumentParser(description="SageMaker as far as Boat speaks it.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--aws", required=True, help="address of moto's server, for S3 and CloudWatch")
    parser.add_argument("--state", type=Path, required=True, help="folder for fetched archives and loaded models")
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--second", type=float, default=0.002, help="how long a second of the service takes")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    # uvicorn raises the signal again at its end, so the host must stop first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = free_port()
    with running_host(options.state / "host", port):
        service = SageMaker(options.region, options.aws, f"http://127.0.0.1:{port}", options.state, options.second)
        Server(service, options.port).run()


if __name__ == "__main__":
    main()
