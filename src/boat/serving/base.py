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
    """What an endpoint answers with.

    Attributes:
        uri: Where the `model.tar.gz` lies.
        digest: SHA-256 of that file, as the registry keeps it.
        version: The registry's version.
    """

    uri: str
    digest: str
    version: str


class Serving(Protocol):
    """A host of endpoints."""

    def update(self, endpoint: str, model: ServedModel) -> None:
        """Put a model behind an endpoint and return once it answers; requests go to the old one until then.

        Raises:
            EndpointError: The model did not load; the endpoint still answers with what it had.
            ArtifactError: The file is not the one the digest names.
        """

    def describe(self, endpoint: str) -> ServedModel | None:
        """What the endpoint answers with now; None where it does not answer."""

    def runtime(self) -> Any:
        """A boto3 `sagemaker-runtime` client."""


_BACKENDS = {
    "local": Backend("boat.serving.local", "LocalServing", "pip install 'boat[serve]'"),
    "sagemaker": Backend("boat.serving.sagemaker", "SageMakerServing", "pip install 'boat[flows]'"),
}


def connect(url: str) -> Serving:
    """The host behind a URL.

    `local:http://127.0.0.1:8080` is the endpoint host on this machine; `sagemaker://eu-west-1?role=ARN` is Amazon's:
    `boat.serving.sagemaker.Hosting` says what else that URL takes.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    serving: Serving = construct("serving", "boat.serving", url, _BACKENDS)
    return serving


def invoke(runtime: Any, endpoint: str, sessions: Sequence[Sequence[SessionEvent]]) -> list[Any]:
    """Ask an endpoint for its answers to sessions, in order.

    Args:
        runtime: A boto3 `sagemaker-runtime` client.
        endpoint: Its name.
        sessions: The events of each, oldest first.

    Returns:
        A mapping with `product_id` and `score` a session for the next item, a share of 1 for purchase intent.

    Raises:
        EndpointError: There is no such endpoint, it did not answer, or its answer is no list of that length.
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
            "See whether its host runs and what it serves; promote/latest puts the champion there.",
        ) from error
    if not isinstance(predictions, list) or len(predictions) != len(sessions):
        raise EndpointError(f"Endpoint {endpoint} did not answer {len(sessions)} sessions one by one.", "Retrain it.")
    return predictions
