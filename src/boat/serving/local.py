"""Serving back end for the endpoint host on this machine, `python -m boat.serving.host`."""

import json
from typing import Any
from urllib.parse import quote

import boto3
import urllib3
from botocore.config import Config

from boat.errors import ArtifactError, BoatError, EndpointError, SettingError
from boat.serving.base import ServedModel

_UPDATE_SECONDS = 300.0
_ERRORS: dict[str, type[BoatError]] = {"ArtifactError": ArtifactError, "SettingError": SettingError}


class LocalServing:
    """A running endpoint host.

    Args:
        url: Such as `local:http://127.0.0.1:8080`.

    Raises:
        SettingError: The part after `local:` is not an address.
    """

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("local:").rstrip("/")
        if not self._address.startswith(("http://", "https://")):
            raise SettingError(f"{url!r} is not a serving URL.", "Write it like local:http://127.0.0.1:8080.")
        self._http = urllib3.PoolManager(retries=False)

    def update(self, endpoint: str, model: ServedModel) -> None:
        """Deploy a model to an endpoint; see `boat.serving.base.Serving.update`."""
        fields = {"uri": model.uri, "digest": model.digest, "version": model.version}
        answer = self._request("PUT", endpoint, fields)
        if answer.status != 200:
            error = _error(answer)
            kind = _ERRORS.get(error.get("error", ""), EndpointError)
            raise kind(error.get("message") or f"{self._address} answered {answer.status}.", error.get("hint", ""))

    def describe(self, endpoint: str) -> ServedModel | None:
        """Return the model that answers. None if the endpoint is unknown or its model was not loaded at a restart."""
        answer = self._request("GET", endpoint)
        if answer.status == 404 and "error" in _error(answer):
            return None
        if answer.status != 200:
            raise EndpointError(
                f"{self._address} answered {answer.status}.", "Check that Boat's endpoint host runs at this address."
            )
        fields = answer.json()
        if fields["status"] == "Failed":
            return None
        return ServedModel(uri=fields["uri"], digest=fields["digest"], version=fields["version"])

    def runtime(self) -> Any:
        """Return a boto3 `sagemaker-runtime` client for this host. It needs no account."""
        return boto3.client(
            "sagemaker-runtime",
            endpoint_url=self._address,
            region_name="local",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3}, proxies={}),
        )

    def _request(self, method: str, endpoint: str, fields: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        address = f"{self._address}/endpoints/{quote(endpoint, safe='')}"
        timeout = urllib3.Timeout(connect=2.0, read=_UPDATE_SECONDS if fields else 10.0)
        try:
            return self._http.request(method, address, body=json.dumps(fields) if fields else None, timeout=timeout)
        except urllib3.exceptions.HTTPError as error:
            raise EndpointError(
                f"The endpoint host at {self._address} did not answer for {endpoint} ({error}).",
                "Check that it runs. Start it with: python -m boat.serving.host",
            ) from error


def _error(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    try:
        fields = answer.json()
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
