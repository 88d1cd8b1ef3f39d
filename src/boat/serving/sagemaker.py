"""Endpoints on Amazon SageMaker: the stock TensorFlow image, blue/green updates and alarms that roll them back."""

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
    "ResourceLimitExceeded": "Ask for more of these instances in Service Quotas, or name others in the serving URL.",
    "ThrottlingException": "Too many calls in this account at the moment: try again later.",
    "AccessDeniedException": "Give the role that deploys the action and the resource named.",
    "ValidationException": "Compare the settings in the serving URL with what the message names.",
}
_CHECK_ACCESS = "Check region and address in the serving URL, and the credentials of this machine."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hosting:
    """What runs an endpoint, as the serving URL says it. Holds no secret.

    Attributes:
        region: AWS region.
        role: ARN of the execution role: reads the model from S3 and the image, writes logs and metrics.
        instance: Instance type.
        count: Instances behind each endpoint.
        tensorflow: Version of the stock TensorFlow inference image.
        image: Image to use in place of the stock one.
        kms_key: Key that encrypts the instances' volumes; empty means Amazon's own.
        canary: Percent of the capacity that gets the new model first, at most 50; 0 shifts all traffic at once.
        bake: Seconds for which alarms are watched after each shift of traffic.
        alarms: CloudWatch alarms, with commas between; one that goes off in an update brings the old model back.
            Without any, SageMaker rolls back only a model that does not start.
        wait: Seconds to wait for an update.
        endpoint_url: Where SageMaker's API is, if not at its usual address.
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
        """Read `sagemaker://REGION?role=ARN&instance=ml.c6i.large&count=2&canary=10&alarms=…`.

        Raises:
            SettingError: A setting is missing, unknown or cannot work.
        """
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        kinds = {field.name: field.type for field in fields(cls) if field.name != "region"}
        unknown = sorted(given.keys() - kinds.keys())
        if unknown or not parts.netloc or not given.get("role"):
            wrong = f"does not know {', '.join(unknown)}" if unknown else "needs a region and a role"
            raise SettingError(f"The serving URL {url!r} {wrong}.", "Write it like sagemaker://eu-west-1?role=ARN.")
        try:
            values: dict[str, Any] = {name: int(text) if kinds[name] is int else text for name, text in given.items()}
        except ValueError as error:
            raise SettingError(
                f"A number in the serving URL {url!r} is none ({error}).", "Use whole numbers."
            ) from error
        hosting = cls(parts.netloc, **values)
        if hosting.count < 1 or not 0 <= hosting.canary <= 50 or (hosting.canary and hosting.count == 1):
            raise SettingError(
                f"{hosting.count} instances with a canary of {hosting.canary} percent cannot be (URL {url!r}).",
                "A canary takes at most 50 percent of two instances or more; canary=0 shifts all traffic at once.",
            )
        if not 0 <= hosting.bake <= 3600:
            raise SettingError(f"bake={hosting.bake} cannot be (URL {url!r}).", "SageMaker bakes 3600 seconds at most.")
        return hosting

    def image_uri(self) -> str:
        """The container image.

        Raises:
            SettingError: There is no stock image of that version in that region.
        """
        if self.image:
            return self.image
        from sagemaker.core import image_uris  # type: ignore[import-untyped]  # takes seconds

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
        """The `DeploymentConfig` of an update: blue/green, in one step or two, watched by the alarms."""
        routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": self.bake}
        if self.canary:
            size = {"Type": "CAPACITY_PERCENT", "Value": self.canary}
            routing |= {"Type": "CANARY", "CanarySize": size}
        limit = max(self.wait, 2 * self.bake + 1800)  # must exceed the bakes; instances take minutes to start
        policy = {"TrafficRoutingConfiguration": routing, "MaximumExecutionTimeoutInSeconds": min(limit, 28800)}
        deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
        names = [name.strip() for name in self.alarms.split(",") if name.strip()]
        if names:
            deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in names]}
        return deployment


class SageMakerServing:
    """Endpoints in one region of an AWS account. Credentials come from boto3's standard chain.

    A model and an endpoint configuration of SageMaker carry a fingerprint of their content in their name, so that a
    call that was interrupted, or comes twice, finds what is there and goes on.

    Args:
        url: Such as `sagemaker://eu-west-1?role=ARN&instance=ml.c6i.large`; see `Hosting`.

    Raises:
        SettingError: A setting in the URL is missing, unknown or cannot work.
    """

    def __init__(self, url: str) -> None:
        self._hosting = Hosting.parse(url)
        self._session = boto3.Session()  # boto3's own is shared by all threads and keeps its first credentials

    def update(self, endpoint: str, model: ServedModel) -> None:
        """Put a model behind an endpoint; see `boat.serving.base.Serving.update`.

        The archive is fetched, held against its digest, loaded and tried on this machine before SageMaker hears of it.

        Raises:
            ReleaseError: SageMaker took the model and then went back to the one before.
        """
        if not model.uri.startswith("s3://"):
            raise SettingError(
                f"SageMaker reads models from S3, not from {model.uri}.",
                "Set the artifact store to s3://BUCKET/FOLDER.",
            )
        if len(endpoint) > _LONGEST_NAME:
            raise SettingError(f"{endpoint!r} is too long a name for an endpoint.", f"Use {_LONGEST_NAME} characters.")
        with _explained(endpoint):
            name = self._ensure_model(endpoint, model)
            config = self._ensure_config(endpoint, name)
            before = self._release(endpoint, config, model)
            self._prune(endpoint, {config, before} if before else {config})

    def describe(self, endpoint: str) -> ServedModel | None:
        """What the endpoint answers with now; during an update the model before. None where it does not answer."""
        with _explained(endpoint):
            live = self._live(endpoint)
            if live is None or live["EndpointStatus"] not in _ANSWERING:
                return None
            return self._served(live["EndpointConfigName"])

    def runtime(self) -> Any:
        """A boto3 `sagemaker-runtime` client."""
        return self._client("sagemaker-runtime", connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 3})

    @cached_property
    def _sagemaker(self) -> Any:
        # "standard" and not "adaptive": that one is called experimental, and slows all calls after one throttle.
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
        """Make SageMaker's model, unless an earlier call did; returns its name."""
        container = {"Image": self._image, "ModelDataUrl": model.uri}
        request = {
            "PrimaryContainer": container,
            "ExecutionRoleArn": self._hosting.role,
            "EnableNetworkIsolation": True,  # a SavedModel is a program; it needs no network
        }
        name = _named(endpoint, {**request, "digest": model.digest})
        tags = _tags({DIGEST_TAG: model.digest, VERSION_TAG: model.version, ENDPOINT_TAG: endpoint})
        found = _found(self._sagemaker.describe_model, ModelName=name)
        self._check_archive(endpoint, model, load=found is None)
        if found is None:
            _create(self._sagemaker.create_model, ModelName=name, Tags=tags, **request)
        elif self._tags(found["ModelArn"]).get(VERSION_TAG) != model.version:
            self._sagemaker.add_tags(ResourceArn=found["ModelArn"], Tags=tags)
        return name

    def _ensure_config(self, endpoint: str, model_name: str) -> str:
        """Make the endpoint configuration, unless an earlier call did; returns its name."""
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
        if _found(self._sagemaker.describe_endpoint_config, EndpointConfigName=name) is None:
            tags = _tags({ENDPOINT_TAG: endpoint})
            _create(self._sagemaker.create_endpoint_config, EndpointConfigName=name, Tags=tags, **request)
        return name

    def _release(self, endpoint: str, config: str, model: ServedModel) -> str | None:
        """Bring a configuration behind the endpoint; returns the one before, None where it is not known."""
        deadline = time.monotonic() + self._hosting.wait
        live = self._live(endpoint)
        if live is None or _heading_for(live) != config or live["EndpointStatus"] not in _ARRIVING:
            live = self._settled(endpoint, deadline)  # an update to another model must end first
            if live is not None and live["EndpointStatus"] == "Failed":
                self._sagemaker.delete_endpoint(EndpointName=endpoint)  # the only thing a failed endpoint takes
                live = self._settled(endpoint, deadline)
            self._start(endpoint, config, exists=live is not None)
        before = live["EndpointConfigName"] if live else None
        ended = self._settled(endpoint, deadline)
        if ended is None or ended["EndpointStatus"] != "InService" or ended["EndpointConfigName"] != config:
            raise self._undone(endpoint, model, ended)
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
            if live is None or _heading_for(live) != config:
                raise
            # else the answer to a first try was lost, and SageMaker refuses boto3's second one

    def _settled(self, endpoint: str, deadline: float) -> dict[str, Any] | None:
        """The endpoint once nothing moves any more; None where there is none.

        Raises:
            EndpointError: It still moves at the deadline.
        """
        pause, said = 0.1, ""
        while (live := self._live(endpoint)) is not None and live["EndpointStatus"] in _MOVING:
            status = live["EndpointStatus"]
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"Endpoint {endpoint} is still {status} after {self._hosting.wait} seconds.",
                    "The next update of the same model waits on; wait= in the serving URL sets for how long.",
                )
            if status != said:
                _log.info("Endpoint %s is %s (%s).", endpoint, status, _heading_for(live))
            time.sleep(pause)
            pause, said = min(pause * 1.5, 15.0), status
        return live

    def _undone(self, endpoint: str, model: ServedModel, ended: Mapping[str, Any] | None) -> ReleaseError:
        status = ended["EndpointStatus"] if ended else "deleted"
        reason = (ended or {}).get("FailureReason") or "SageMaker gives no reason"
        answering = self._served(ended["EndpointConfigName"]) if ended and status in _ANSWERING else None
        state = f"Version {answering.version} answers" if answering else "Nothing answers"
        return ReleaseError(
            f"Endpoint {endpoint} did not keep version {model.version} ({status}): {reason.rstrip('.')}.",
            f"{state}. See the log group /aws/sagemaker/Endpoints/{endpoint} and the alarms.",
        )

    def _live(self, endpoint: str) -> dict[str, Any] | None:
        return _found(self._sagemaker.describe_endpoint, EndpointName=endpoint)

    def _served(self, config: str) -> ServedModel:
        model = self._sagemaker.describe_model(ModelName=self._model_of(config))
        tags = self._tags(model["ModelArn"])
        if DIGEST_TAG not in tags or VERSION_TAG not in tags:
            raise EndpointError(
                f"Model {model['ModelName']} has no tags {DIGEST_TAG} and {VERSION_TAG}: Boat did not release it.",
                "Delete that endpoint, or give Boat's another name.",
            )
        return ServedModel(model["PrimaryContainer"]["ModelDataUrl"], tags[DIGEST_TAG], tags[VERSION_TAG])

    def _model_of(self, config: str) -> str:
        variants = self._sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
        name: str = variants[0]["ModelName"]
        return name

    def _tags(self, arn: str) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self._sagemaker.list_tags(ResourceArn=arn)["Tags"]}

    def _check_archive(self, endpoint: str, model: ServedModel, load: bool) -> None:
        """Hold the archive against its digest and, if it is new, load and try it, before it costs an instance."""
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
                "%s was exported with TensorFlow %s and the image has %s: a model is only promised to load in its own "
                "version or a newer one. If it does not, SageMaker keeps the old model.",
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
                raise ArtifactError(f"There is no {uri} ({error}).", "Restore it, or retrain.") from error
            raise

    def _prune(self, endpoint: str, keep: set[str]) -> None:
        """Delete the configurations and models of releases before the last; they cost nothing, but count as a quota."""
        if len(keep) < 2:
            return
        try:
            kept = {self._model_of(name) for name in keep}
            for name in set(self._names("list_endpoint_configs", "EndpointConfig", endpoint)) - keep:
                self._sagemaker.delete_endpoint_config(EndpointConfigName=name)
            for name in set(self._names("list_models", "Model", endpoint)) - kept:
                self._sagemaker.delete_model(ModelName=name)
        except (ClientError, BotoCoreError) as error:
            _log.warning("Old releases of endpoint %s stay until the next update (%s).", endpoint, error)

    def _names(self, operation: str, kind: str, endpoint: str) -> Iterator[str]:
        ours = re.compile(re.escape(endpoint) + "-[0-9a-f]{12}")
        for page in self._sagemaker.get_paginator(operation).paginate(NameContains=endpoint):
            yield from (one[f"{kind}Name"] for one in page[f"{kind}s"] if ours.fullmatch(one[f"{kind}Name"]))


def _heading_for(live: Mapping[str, Any]) -> str:
    """The configuration the endpoint has, or gets once what is under way has ended well."""
    pending: Mapping[str, str] = live.get("PendingDeploymentSummary") or live
    return pending["EndpointConfigName"]


def _named(endpoint: str, request: Mapping[str, Any]) -> str:
    fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return f"{endpoint}-{fingerprint[:12]}"


def _tags(tags: Mapping[str, str]) -> Sequence[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _found(describe: Callable[..., Any], **name: str) -> dict[str, Any] | None:
    """What a describe call answers; None where SageMaker has no such thing, for which it has no code of its own."""
    try:
        description: dict[str, Any] = describe(**name)
    except ClientError as error:
        if "could not find" in error.response["Error"]["Message"].lower():
            return None
        raise
    return description


def _create(create: Callable[..., Any], **request: Any) -> None:
    """Create what may be there: the answer to an earlier try can have been lost, and the name says the content."""
    try:
        create(**request)
    except ClientError as error:
        if "already exist" not in error.response["Error"]["Message"].lower():
            raise


def _release_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


@contextmanager
def _explained(endpoint: str) -> Iterator[None]:
    """Say what AWS refused and what to do next."""
    try:
        yield
    except ClientError as error:
        hint = _HINTS.get(error.response["Error"]["Code"], _CHECK_ACCESS)
        raise EndpointError(f"AWS refused what endpoint {endpoint} needs: {str(error).rstrip('.')}.", hint) from error
    except (BotoCoreError, Boto3Error) as error:
        raise EndpointError(
            f"AWS did not answer for endpoint {endpoint}: {str(error).rstrip('.')}.", _CHECK_ACCESS
        ) from error
