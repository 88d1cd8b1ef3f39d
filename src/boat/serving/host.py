"""The endpoint host: `python -m boat.serving.host --port 8080 --state .boat/serving`.

It offers three protocols over HTTP: SageMaker Runtime (`POST /endpoints/NAME/invocations`), the SageMaker container's
(`GET /ping`, `POST /invocations`), and Boat's control protocol (`PUT` and `GET /endpoints/NAME`) for
`boat.serving.local`. It has no authentication: bind it to this machine.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from boat import settings
from boat.errors import BoatError, DataError
from boat.kinds import RECOMMEND
from boat.models import sessions
from boat.render.page import page
from boat.serving.base import ServedModel
from boat.serving.endpoints import Endpoint, Endpoints, predict

MAX_BODY_BYTES = 5 * 1024**2
MAX_WAITING = 256
"""Most requests in progress. The host answers 503 to further requests."""

_TARGET = "X-Amzn-SageMaker-Target-Model"
_VARIANT = "AllTraffic"


class _InvocationError(Exception):
    """An error answer in boto3's format: the code is in a header, the message in the body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> Response:
        body: dict[str, Any] = {"message": self.message}
        if self.code == "ModelError":
            body |= {"OriginalStatusCode": self.status, "OriginalMessage": self.message}
        return JSONResponse(body, self.status, headers={"x-amzn-ErrorType": self.code})


class Host:
    """The HTTP interface of the endpoints.

    Args:
        endpoints: The endpoints.
        threads: Most predictions at once. The event loop itself never predicts.
    """

    def __init__(self, endpoints: Endpoints, threads: int) -> None:
        self._endpoints = endpoints
        self._predictions = ThreadPoolExecutor(threads, "predict")
        self._updates = ThreadPoolExecutor(1, "update")
        self._in_progress = 0

    def app(self) -> Starlette:
        """Return the ASGI application. It accepts requests once the models of the last run are loaded."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/ping", self.ping),
                Route("/invocations", self.invoke, methods=["POST"]),
                Route("/endpoints", self.list),
                Route("/endpoints/{name}", self.describe, methods=["GET"]),
                Route("/endpoints/{name}", self.update, methods=["PUT"]),
                Route("/endpoints/{name}/invocations", self.invoke, methods=["POST"]),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(self._updates, self._endpoints.restore)
        yield

    async def ping(self, request: Request) -> Response:
        """Answer 200 if every endpoint has a model, else 503."""
        broken = [endpoint.name for endpoint in self._endpoints.all() if endpoint.model is None]
        return JSONResponse({"failed": broken}, 503 if broken else 200)

    async def invoke(self, request: Request) -> Response:
        """Return predictions for the sessions of a request."""
        try:
            endpoint = self._target(request)
            answer = await self._predict(endpoint, await _body(request))
        except _InvocationError as error:
            return error.response()
        version = f"version={endpoint.served.version}"
        headers = {"x-Amzn-Invoked-Production-Variant": _VARIANT, "X-Amzn-SageMaker-Custom-Attributes": version}
        return Response(answer, media_type="application/json", headers=headers)

    def _target(self, request: Request) -> Endpoint:
        path: str | None = request.path_params.get("name")
        name = path or request.headers.get(_TARGET) or request.query_params.get("endpoint") or RECOMMEND
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise _InvocationError(400, "ValidationError", f"Endpoint {name} of account local not found.")
        return endpoint

    async def _predict(self, endpoint: Endpoint, body: bytes) -> bytes:
        if self._in_progress >= MAX_WAITING:
            raise _InvocationError(503, "ServiceUnavailable", f"{MAX_WAITING} requests are in progress. Try again.")
        self._in_progress += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._predictions, predict, endpoint, body)
        except DataError as error:
            message = f'Received client error (400) from primary with message "{error}"'
            raise _InvocationError(400, "ModelError", message) from error
        except BoatError as error:
            message = f'Received server error (500) from primary with message "{error}"'
            raise _InvocationError(500, "ModelError", message) from error
        finally:
            self._in_progress -= 1

    async def list(self, request: Request) -> Response:
        """Return all endpoints."""
        return JSONResponse({"endpoints": [self._described(endpoint) for endpoint in self._endpoints.all()]})

    async def describe(self, request: Request) -> Response:
        """Return an endpoint."""
        endpoint = self._endpoints.get(request.path_params["name"])
        if endpoint is None:
            return _error(404, "EndpointError", f"There is no endpoint {request.path_params['name']}.")
        return JSONResponse(self._described(endpoint))

    async def update(self, request: Request) -> Response:
        """Deploy a model, `{"uri", "digest", "version"}`, to an endpoint. Return once the model answers."""
        try:
            fields = json.loads(await _body(request))
            served = ServedModel(**{key: _text(fields, key) for key in ("uri", "digest", "version")})
        except (_InvocationError, ValueError, RecursionError, TypeError, KeyError) as error:
            return _error(400, "SettingError", f"The body is not a model with uri, digest and version ({error}).")
        name = request.path_params["name"]
        loop = asyncio.get_running_loop()
        try:
            return JSONResponse(
                self._described(await loop.run_in_executor(self._updates, self._endpoints.update, name, served))
            )
        except BoatError as error:
            return _error(422, type(error).__name__, error.message, error.hint)
        except OSError as error:
            return _error(500, "EndpointError", f"Cannot store the model of endpoint {name} ({error}).")

    def _described(self, endpoint: Endpoint) -> dict[str, Any]:
        return {
            "name": endpoint.name,
            **asdict(endpoint.served),
            "status": self._endpoints.status(endpoint),
            "since": endpoint.since,
        }

    async def page(self, request: Request) -> Response:
        """Return a page for people that lists the endpoints."""
        return HTMLResponse(_page([self._described(endpoint) for endpoint in self._endpoints.all()], request))


async def _body(request: Request) -> bytes:
    """Return the body. A body that is too large is read to its end: a client that sends does not see the answer."""
    body, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= MAX_BODY_BYTES:
                body += chunk
    except ClientDisconnect as error:
        raise _InvocationError(400, "ValidationError", "The body ended early.") from error
    if size > MAX_BODY_BYTES:
        message = f"The body has {size} bytes. At most {MAX_BODY_BYTES} are accepted."
        raise _InvocationError(413, "ValidationError", message)
    return bytes(body)


def _text(fields: Any, key: str) -> str:
    value = fields[key]
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{key} is not text")
    return value


def _error(status: int, error: str, message: str, hint: str = "") -> Response:
    return JSONResponse({"error": error, "message": message, "hint": hint}, status)


def _page(described: Sequence[dict[str, Any]], request: Request) -> str:
    rows = "".join(
        f"<tr><td>{escape(row['name'])}</td><td>{escape(row['version'])}</td>"
        f"<td{'' if row['status'] == 'InService' else ' class=bad'}>{row['status']}</td>"
        f"<td class=dim>{escape(row['since'])}</td><td><code>{escape(row['digest'][:12])}</code></td></tr>"
        for row in described
    )
    table = f"<table><tr><th>Endpoint<th>Version<th>Status<th>Since (UTC)<th>Digest</tr>{rows}</table>"
    nothing = "<p>No endpoint yet: <code>promote/latest</code> deploys the first model.</p>"
    body = json.dumps({"instances": sessions.instances([[{"event_type": "detail", "product_id": "PRODUCT"}]])})
    name = described[0]["name"] if described else RECOMMEND
    curl = f"curl -H 'Content-Type: application/json' {request.base_url}endpoints/{name}/invocations -d '{body}'"
    content = table if described else nothing
    return page("Boat endpoints", f"<h1>Endpoints</h1>{content}<h2>Send a request</h2><pre>{escape(curl)}</pre>")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host until it is stopped. Return 0, or 1 after printing the error to stderr."""
    try:
        _serve(arguments)
    except BoatError as error:
        print(f"python -m boat.serving.host: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(arguments: Sequence[str] | None) -> None:
    defaults = settings.load()
    parser = argparse.ArgumentParser(prog="python -m boat.serving.host", description="Serve models over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=str(defaults.endpoint_port), help="default: %(default)s")
    parser.add_argument(
        "--state", type=Path, default=defaults.serving, help="folder for its state (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="most predictions at once")
    options = parser.parse_args(arguments)
    port = settings.port(options.port, "--port")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's notes about missing GPUs
    app = Host(Endpoints(options.state), options.threads).app()
    print(f"Endpoints on http://{options.host}:{port}, state in {options.state}", flush=True)
    uvicorn.run(
        app,
        host=options.host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    sys.exit(main())
