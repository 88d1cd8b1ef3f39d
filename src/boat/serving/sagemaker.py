"""Endpoints on Amazon SageMaker: stock TensorFlow image, blue/green updates, rollback by alarms."""

import hashlib
import json
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from boat.errors import ArtifactError, EndpointError, ReleaseError, SettingError
from boat.models.archive import unpack
from boat.models.served import SavedModel
from boat.serving.base import ServedModel
from boat.serving.endpoints import check_model

VARIANT = "AllTraffic"
"""SageMaker shifts traffic step by step only between variants of the same name."""

DIGEST_TAG, VERSION_TAG, ENDPOINT_TAG = "boat:digest", "boat:version", "boat:endpoint"

_MOVING = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_ANSWERING = {"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"}
_ARRIVING = _MOVING - {"Deleting"} | {"InService"}
_LONGEST_NAME = 50
"""SageMaker takes 63 characters; 13 of them are a hyphen and the fingerprint."""

_GONE = {"404", "NoSuchKey", "NoSuchBucket"}
_HINTS = {
    "ResourceLimitExceeded": "Request more instances in Service Quotas, or set another type in the serving URL.",
    "ThrottlingException": "There are too many calls in this account. Retry later.",
    "AccessDeniedException": "Grant the named action on the named resource to the role that deploys.",
    "ValidationException": "Correct the named value in the serving URL.",
}
_CHECK_ACCESS = "Check region and address in the serving URL, and the credentials of this machine."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hosting:
    """Options of a serving URL. They hold no secrets.

    Attributes:
        region: AWS region.
        role: ARN of the execution role. It reads the model on S3 and the image, and writes logs and metrics.
        instance: Instance type.
        count: Number of instances of each endpoint.
        tensorflow: Version of the stock TensorFlow inference image.
        image: Image to use instead of the stock image.
        kms_key: Key that encrypts the volumes of the instances. Empty: Amazon's key.
        canary: Percent of the capacity that gets the new model first, at most 50. 0 shifts all traffic at once.
        bake: Seconds to watch the alarms after each shift of traffic.
        alarms: Names of CloudWatch alarms, separated by commas. An alarm during an update rolls it back. Without
            alarms, SageMaker rolls back only a model that does not start.
        wait: Longest time to wait for an update, in seconds.
        endpoint_url: Address of SageMaker's API, if it is not the default one.
    """

    region: str
    role: str
    instance: str = "ml.c6i.large"
    count: int = 1
    tensorflow: str = "2.20.0"
    image: str = ""
    kms_key: str = ""
    canary: int = 0
    bake: int = 300
    alarms: str = ""
    wait: int = 1800
    endpoint_url: str = ""

    @classmethod
    def parse(cls, url: str) -> "Hosting":
        """Parse `sagemaker://REGION?role=ARN&instance=ml.c6i.large&count=2&canary=10&alarms=…`.

        Raises:
            SettingError: An option is missing, unknown or not valid.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        types = {field.name: field.type for field in fields(cls) if field.name != "region"}
        unknown = sorted(options.keys() - types.keys())
        if unknown or not parts.netloc or not options.get("role"):
            problem = f"has the unknown option {', '.join(unknown)}" if unknown else "needs a region and a role"
            raise SettingError(f"The serving URL {url!r} {problem}.", "Write it like sagemaker://eu-west-1?role=ARN.")
        try:
            values: dict[str, Any] = {name: int(text) if types[name] is int else text for name, text in options.items()}
        except ValueError as error:
            raise SettingError(
                f"An option of the serving URL {url!r} is not a whole number ({error}).", "Correct its value."
            ) from error
        hosting = cls(parts.netloc, **values)
        if hosting.count < 1 or not 0 <= hosting.canary <= 50 or (hosting.canary and hosting.count == 1):
            raise SettingError(
                f"A canary of {hosting.canary} percent is not possible with {hosting.count} instances (URL {url!r}).",
                "Set canary to at most 50 and count to 2 or more, or canary=0 to shift all traffic at once.",
            )
        if not 0 <= hosting.bake <= 3600:
            raise SettingError(
                f"bake={hosting.bake} is not allowed (URL {url!r}).", "Set bake to a number from 0 to 3600."
            )
        return hosting

    def image_uri(self) -> str:
        """Return the URI of the container image.

        Raises:
            SettingError: There is no stock image of this version in this region.
        """
        if self.image:
            return self.image
        from sagemaker.core import image_uris  # type: ignore[import-untyped]  # the import takes seconds

        try:
            uri: str = image_uris.retrieve(
                framework="tensorflow",
                region=self.region,
                version=self.tensorflow,
                instance_type=self.instance,
                image_scope="inference",
            )
        except ValueError as error:
            raise SettingError(
                f"There is no stock image for TensorFlow {self.tensorflow} on {self.instance} in {self.region}.",
                str(error),
            ) from error
        return uri

    def deployment(self) -> dict[str, Any]:
        """Return the `DeploymentConfig` of an update: blue/green, in one or two steps, with alarms."""
        routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": self.bake}
        if self.canary:
            size = {"Type": "CAPACITY_PERCENT", "Value": self.canary}
            routing |= {"Type": "CANARY", "CanarySize": size}
        limit = max(self.wait, 2 * self.bake + 1800)  # must exceed the bake times; instances take minutes to start
        policy = {"TrafficRoutingConfiguration": routing, "MaximumExecutionTimeoutInSeconds": min(limit, 28800)}
        deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
        names = [name.strip() for name in self.alarms.split(",") if name.strip()]
        if names:
            deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in names]}
        return deployment


class SageMakerServing:
    """Endpoints in one region of an AWS account. Credentials come from boto3's standard chain.

    The names of SageMaker's models and endpoint configurations contain a fingerprint of their content. A repeated
    call finds the objects of an interrupted one and continues with them.

    Args:
        url: URL such as `sagemaker://eu-west-1?role=ARN&instance=ml.c6i.large`; see `Hosting`.

    Raises:
        SettingError: An option of the URL is missing, unknown or not valid.
    """

    def __init__(self, url: str) -> None:
        self._hosting = Hosting.parse(url)
        # boto3's default session is shared by all threads and never renews its credentials.
        self._session = boto3.Session()

    def update(self, endpoint: str, model: ServedModel) -> None:
        """Deploy a model to an endpoint; see `boat.serving.base.Serving.update`.

        The archive is first downloaded, compared with its digest, loaded and tested on this machine.

        Raises:
            ReleaseError: SageMaker rolled the new model back.
        """
        if not model.uri.startswith("s3://"):
            raise SettingError(
                f"SageMaker reads models from S3, not from {model.uri}.",
                "Set the artifact store to s3://BUCKET/FOLDER.",
            )
        if len(endpoint) > _LONGEST_NAME:
            raise SettingError(
                f"The endpoint name {endpoint!r} is too long.", f"Use at most {_LONGEST_NAME} characters."
            )
        with _explained(endpoint):
            name = self._ensure_model(endpoint, model)
            config = self._ensure_config(endpoint, name)
            before = self._release(endpoint, config, model)
            self._prune(endpoint, {config, before} if before else {config})

    def describe(self, endpoint: str) -> ServedModel | None:
        """Return the model that answers: the old one during an update, or None if the endpoint does not answer."""
        with _explained(endpoint):
            live = self._live(endpoint)
            if live is None or live["EndpointStatus"] not in _ANSWERING:
                return None
            return self._served(live["EndpointConfigName"])

    def runtime(self) -> Any:
        """Return a boto3 `sagemaker-runtime` client."""
        return self._client("sagemaker-runtime", connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3})

    @cached_property
    def _sagemaker(self) -> Any:
        # Not "adaptive", which is experimental and slows down all calls after one throttled call.
        retries = {"mode": "standard", "total_max_attempts": 8}
        return self._client("sagemaker", connect_timeout=5, read_timeout=60, retries=retries)

    @cached_property
    def _image(self) -> str:
        return self._hosting.image_uri()

    def _client(self, service: str, **config: Any) -> Any:
        address = self._hosting.endpoint_url or None
        return self._session.client(
            service, region_name=self._hosting.region, endpoint_url=address, config=Config(**config)
        )

    def _ensure_model(self, endpoint: str, model: ServedModel) -> str:
        """Create SageMaker's model unless it exists. Return its name."""
        container = {"Image": self._image, "ModelDataUrl": model.uri}
        request = {
            "PrimaryContainer": container,
            "ExecutionRoleArn": self._hosting.role,
            "EnableNetworkIsolation": True,  # a SavedModel can run code, and it needs no network
        }
        name = _named(endpoint, {**request, "digest": model.digest})
        tags = _tags({DIGEST_TAG: model.digest, VERSION_TAG: model.version, ENDPOINT_TAG: endpoint})
        existing = _describe(self._sagemaker.describe_model, ModelName=name)
        self._check_archive(endpoint, model, load=existing is None)
        if existing is None:
            _create(self._sagemaker.create_model, ModelName=name, Tags=tags, **request)
        elif self._tags(existing["ModelArn"]).get(VERSION_TAG) != model.version:
            self._sagemaker.add_tags(ResourceArn=existing["ModelArn"], Tags=tags)
        return name

    def _ensure_config(self, endpoint: str, model_name: str) -> str:
        """Create the endpoint configuration unless it exists. Return its name."""
        variant = {
            "VariantName": VARIANT,
            "ModelName": model_name,
            "InstanceType": self._hosting.instance,
            "InitialInstanceCount": self._hosting.count,
            "InitialVariantWeight": 1.0,
        }
        request: dict[str, Any] = {"ProductionVariants": [variant]}
        if self._hosting.kms_key:
            request["KmsKeyId"] = self._hosting.kms_key
        name = _named(endpoint, request)
        if _describe(self._sagemaker.describe_endpoint_config, EndpointConfigName=name) is None:
            tags = _tags({ENDPOINT_TAG: endpoint})
            _create(self._sagemaker.create_endpoint_config, EndpointConfigName=name, Tags=tags, **request)
        return name

    def _release(self, endpoint: str, config: str, model: ServedModel) -> str | None:
        """Switch the endpoint to a configuration. Return the previous one, or None if it is unknown."""
        deadline = time.monotonic() + self._hosting.wait
        live = self._live(endpoint)
        if live is None or _target_config(live) != config or live["EndpointStatus"] not in _ARRIVING:
            live = self._wait_until_stable(endpoint, deadline)  # a running update must end first
            if live is not None and live["EndpointStatus"] == "Failed":
                self._sagemaker.delete_endpoint(EndpointName=endpoint)  # a failed endpoint cannot be updated
                live = self._wait_until_stable(endpoint, deadline)
            self._start(endpoint, config, exists=live is not None)
        before = live["EndpointConfigName"] if live else None
        ended = self._wait_until_stable(endpoint, deadline)
        if ended is None or ended["EndpointStatus"] != "InService" or ended["EndpointConfigName"] != config:
            raise self._release_error(endpoint, model, ended)
        _log.info("Endpoint %s answers with version %s (%s).", endpoint, model.version, config)
        return before if before != config else None

    def _start(self, endpoint: str, config: str, exists: bool) -> None:
        try:
            if exists:
                self._sagemaker.update_endpoint(
                    EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=self._hosting.deployment()
                )
            else:
                self._sagemaker.create_endpoint(
                    EndpointName=endpoint, EndpointConfigName=config, Tags=_tags({ENDPOINT_TAG: endpoint})
                )
        except ClientError:
            live = self._live(endpoint)
            if live is None or _target_config(live) != config:
                raise
            # The first call succeeded, its answer was lost, and SageMaker refused boto3's retry.

    def _wait_until_stable(self, endpoint: str, deadline: float) -> dict[str, Any] | None:
        """Wait for the end of a running update. Return the endpoint, or None if it does not exist.

        Raises:
            EndpointError: The update still runs at the deadline.
        """
        pause, logged = 0.1, ""
        while (live := self._live(endpoint)) is not None and live["EndpointStatus"] in _MOVING:
            status = live["EndpointStatus"]
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"Endpoint {endpoint} is still {status} after {self._hosting.wait} seconds.",
                    "Retry: the next update of the same model continues to wait. Raise wait= in the serving URL.",
                )
            if status != logged:
                _log.info("Endpoint %s is %s (%s).", endpoint, status, _target_config(live))
            time.sleep(pause)
            pause, logged = min(pause * 1.5, 15.0), status
        return live

    def _release_error(self, endpoint: str, model: ServedModel, ended: Mapping[str, Any] | None) -> ReleaseError:
        status = ended["EndpointStatus"] if ended else "deleted"
        reason = (ended or {}).get("FailureReason") or "SageMaker gives no reason"
        answering = self._served(ended["EndpointConfigName"]) if ended and status in _ANSWERING else None
        state = f"Version {answering.version} answers" if answering else "The endpoint does not answer"
        return ReleaseError(
            f"Endpoint {endpoint} could not switch to version {model.version} ({status}): {reason.rstrip('.')}.",
            f"{state}. Check the log group /aws/sagemaker/Endpoints/{endpoint} and the alarms.",
        )

    def _live(self, endpoint: str) -> dict[str, Any] | None:
        return _describe(self._sagemaker.describe_endpoint, EndpointName=endpoint)

    def _served(self, config: str) -> ServedModel:
        model = self._sagemaker.describe_model(ModelName=self._model_of(config))
        tags = self._tags(model["ModelArn"])
        if DIGEST_TAG not in tags or VERSION_TAG not in tags:
            raise EndpointError(
                f"Model {model['ModelName']} has no tags {DIGEST_TAG} and {VERSION_TAG}: Boat did not deploy it.",
                "Delete its endpoint, or use another account or region.",
            )
        return ServedModel(model["PrimaryContainer"]["ModelDataUrl"], tags[DIGEST_TAG], tags[VERSION_TAG])

    def _model_of(self, config: str) -> str:
        variants = self._sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
        name: str = variants[0]["ModelName"]
        return name

    def _tags(self, arn: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self._sagemaker.list_tags(ResourceArn=arn)["Tags"]}

    def _check_archive(self, endpoint: str, model: ServedModel, load: bool) -> None:
        """Compare the archive with its digest. If it is new, load and test it before an instance is started."""
        with tempfile.TemporaryDirectory(prefix="boat-release-") as temporary:
            archive, folder = Path(temporary, "model.tar.gz"), Path(temporary, "model")
            self._download(model.uri, archive)
            try:
                manifest = unpack(archive, folder, model.digest)
                if not load:
                    return
                check_model(endpoint, model.uri, SavedModel(folder, manifest))
            except ArtifactError as error:
                raise ArtifactError(f"{model.uri}: {error.message}", error.hint) from error
        if not self._hosting.image and _release_of(manifest.tensorflow_version) > _release_of(self._hosting.tensorflow):
            _log.warning(
                "%s was exported with TensorFlow %s, but the image has the older version %s, which may not load it. "
                "In that case SageMaker keeps the old model.",
                model.uri,
                manifest.tensorflow_version,
                self._hosting.tensorflow,
            )

    def _download(self, uri: str, path: Path) -> None:
        parts = urlsplit(uri)
        try:
            s3 = self._session.client("s3", region_name=self._hosting.region)
            s3.download_file(parts.netloc, parts.path.lstrip("/"), str(path))
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                raise ArtifactError(f"{uri} does not exist ({error}).", "Restore it, or retrain.") from error
            raise

    def _prune(self, endpoint: str, keep: set[str]) -> None:
        """Delete the configurations and models of earlier releases. They are free, but count towards a quota."""
        if len(keep) < 2:
            return
        try:
            models_to_keep = {self._model_of(name) for name in keep}
            for name in set(self._names("list_endpoint_configs", "EndpointConfig", endpoint)) - keep:
                self._sagemaker.delete_endpoint_config(EndpointConfigName=name)
            for name in set(self._names("list_models", "Model", endpoint)) - models_to_keep:
                self._sagemaker.delete_model(ModelName=name)
        except (ClientError, BotoCoreError) as error:
            _log.warning(
                "Cannot delete old releases of endpoint %s (%s). The next update tries again.", endpoint, error
            )

    def _names(self, operation: str, kind: str, endpoint: str) -> Iterator[str]:
        ours = re.compile(re.escape(endpoint) + "-[0-9a-f]{12}")
        for page in self._sagemaker.get_paginator(operation).paginate(NameContains=endpoint):
            names = (entry[f"{kind}Name"] for entry in page[f"{kind}s"])
            yield from filter(ours.fullmatch, names)


def _target_config(live: Mapping[str, Any]) -> str:
    """Return the endpoint's configuration, or during an update the one that it will have."""
    pending: Mapping[str, str] = live.get("PendingDeploymentSummary") or live
    return pending["EndpointConfigName"]


def _named(endpoint: str, request: Mapping[str, Any]) -> str:
    fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return f"{endpoint}-{fingerprint[:12]}"


def _tags(tags: Mapping[str, str]) -> Sequence[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _describe(describe: Callable[..., Any], **name: str) -> dict[str, Any] | None:
    """Return an object, or None if it does not exist. SageMaker has no error code for a missing object."""
    try:
        description: dict[str, Any] = describe(**name)
    except ClientError as error:
        if "could not find" in error.response["Error"]["Message"].lower():
            return None
        raise
    return description


def _create(create: Callable[..., Any], **request: Any) -> None:
    """Create an object unless it exists. The same name means the same content."""
    try:
        create(**request)
    except ClientError as error:
        if "already exist" not in error.response["Error"]["Message"].lower():
            raise


def _release_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


@contextmanager
def _explained(endpoint: str) -> Iterator[None]:
    """Raise AWS errors as errors that name the endpoint and the next step."""
    try:
        yield
    except ClientError as error:
        hint = _HINTS.get(error.response["Error"]["Code"], _CHECK_ACCESS)
        raise EndpointError(f"AWS refused a call for endpoint {endpoint}: {str(error).rstrip('.')}.", hint) from error
    except (BotoCoreError, Boto3Error) as error:
        raise EndpointError(
            f"AWS did not answer for endpoint {endpoint}: {str(error).rstrip('.')}.", _CHECK_ACCESS
        ) from error
