"""The serving seam: named endpoints that answer the SageMaker Runtime protocol, chosen by URL."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from boat.backends import Backend, construct
from boat.errors import EndpointError
from boat.models.sessions import SessionEvent, instances


@dataclass(frozen=True)
class ServedModel:
    """The model behind an endpoint.

    Attributes:
        uri: URI of the `model.tar.gz`.
        digest: SHA-256 of that file, from the registry.
        version: Version in the registry.
    """

    uri: str
    digest: str
    version: str


class Serving(Protocol):
    """A host of endpoints."""

    def update(self, endpoint: str, model: ServedModel) -> None:
        """Deploy a model to an endpoint and return once it answers. Until then the old model answers.

        Raises:
            EndpointError: The model cannot be loaded. The old model still answers.
            ArtifactError: The file is missing, or does not match the digest.
        """

    def describe(self, endpoint: str) -> ServedModel | None:
        """Return the model that answers, or None if the endpoint does not answer."""

    def runtime(self) -> Any:
        """Return a boto3 `sagemaker-runtime` client."""


_BACKENDS = {
    "local": Backend("boat.serving.local", "LocalServing", "pip install 'boat[serve]'"),
    "sagemaker": Backend("boat.serving.sagemaker", "SageMakerServing", "pip install 'boat[flows]'"),
}


def connect(url: str) -> Serving:
    """Return the serving back end of a URL.

    `local:http://127.0.0.1:8080` is the endpoint host on this machine. `sagemaker://eu-west-1?role=ARN` is Amazon
    SageMaker; `boat.serving.sagemaker.Hosting` lists its options.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    serving: Serving = construct("serving", "boat.serving", url, _BACKENDS)
    return serving


def invoke(runtime: Any, endpoint: str, sessions: Sequence[Sequence[SessionEvent]]) -> list[Any]:
    """Return the predictions of an endpoint for sessions, in the same order.

    Args:
        runtime: A boto3 `sagemaker-runtime` client.
        endpoint: Name of the endpoint.
        sessions: Events of each session, oldest first.

    Returns:
        For each session a mapping with `product_id` and `score` (recommendations), or a share of 1 (intent).

    Raises:
        EndpointError: The endpoint does not exist or answer, or its answer is not a list of that length.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if not sessions:
        return []
    body = json.dumps({"instances": instances(sessions)})
    try:
        response = runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Accept="application/json", Body=body
        )
        predictions = json.loads(response["Body"].read())["predictions"]
    except (BotoCoreError, ClientError, ValueError, KeyError, TypeError) as error:
        raise EndpointError(
            f"Endpoint {endpoint} did not answer ({error}).",
            "Check that its host runs. promote/latest deploys the champion.",
        ) from error
    if not isinstance(predictions, list) or len(predictions) != len(sessions):
        raise EndpointError(
            f"Endpoint {endpoint} did not give one answer for each of {len(sessions)} sessions.", "Retrain its model."
        )
    return predictions
