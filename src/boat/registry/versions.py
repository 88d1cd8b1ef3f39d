"""The model registry: versions in MLflow with the aliases challenger, champion and previous."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

from boat.errors import RegistryError, RegistryUnreachableError
from boat.registry.tracking import (
    CURVE,
    DIGEST,
    RELEASE_DIGEST,
    RELEASE_URI,
    SNAPSHOT_URI,
    MlflowTracker,
    Training,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

Alias = Literal["challenger", "champion", "previous"]

_ANSWERS = {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}
"""Error codes that MLflow sends as an answer. Other codes, such as INTERNAL_ERROR, mean that it does not work."""

_REPLACED = "replaced"
"""Tag of a version: the champion that it replaced."""
_GATES, _LIFT = "gates", "lift"
_PROMOTED_AT, _PROMOTED_BY, _ROLLED_BACK_AT = "promoted_at", "promoted_by", "rolled_back_at"
_APPROVAL_ASKED_AT = "approval_asked_at"
_FIELDS = (
    *(DIGEST, SNAPSHOT_URI, RELEASE_URI, RELEASE_DIGEST, _REPLACED, _GATES, _LIFT),
    *(_PROMOTED_AT, _PROMOTED_BY, _ROLLED_BACK_AT, _APPROVAL_ASKED_AT),
)
"""Tags that are attributes of a version, and not part of its lineage."""

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class Archive(NamedTuple):
    """A `model.tar.gz` in the artifact store.

    Attributes:
        uri: Its location.
        digest: SHA-256 of the file.
    """

    uri: str
    digest: str


class CheckedLift(NamedTuple):
    """The lift of a version over a baseline, from its gates.

    Attributes:
        uri: Location of its evaluated archive.
        value: The lift.
        promoted_at: Time of its promotion. `None` if it was not promoted.
    """

    uri: str
    value: float
    promoted_at: datetime | None


@dataclass(frozen=True)
class ModelVersion:
    """A registered model.

    Attributes:
        name: Registered model, named like its endpoint.
        version: Number in the registry.
        uri: Location of the `model.tar.gz` that was evaluated.
        digest: SHA-256 of that file, which identifies the version.
        snapshot_uri: Location of the snapshot with its training, validation and test data.
        run_id: MLflow run of its training. Empty if MLflow did not record it.
        metrics: Evaluation on the test days. Empty if MLflow did not record it.
        lineage: Origin of the model: digest of the snapshot, version of the code, dbt manifest, flow run.
        created_at: Time of the registration, UTC.
        release_uri: Location of the archive to be released. Empty: that of `uri`.
        release_digest: SHA-256 of that file. Empty: `digest`.
        gates: Gates of its last check as JSON, see `boat.evaluation.gate.Decision`. Empty before the first check.
        promoted_at: Time of its last promotion. `None` if it was never promoted.
        promoted_by: Flow run of that promotion.
        approval_asked_at: Time at which a person was asked to approve its promotion. `None`: nobody was asked.
    """

    name: str
    version: str
    uri: str
    digest: str
    snapshot_uri: str
    run_id: str
    metrics: Mapping[str, float]
    lineage: Mapping[str, str]
    created_at: datetime
    release_uri: str = ""
    release_digest: str = ""
    gates: str = ""
    promoted_at: datetime | None = None
    promoted_by: str = ""
    approval_asked_at: datetime | None = None

    @property
    def released(self) -> Archive:
        """Return the archive that endpoints load: the one trained on all days, or else the evaluated one."""
        return Archive(self.release_uri or self.uri, self.release_digest or self.digest)

    @property
    def is_registered(self) -> bool:
        """Return whether the registry has this version."""
        return self.version.isdecimal()

    @classmethod
    def unregistered(cls, training: Training) -> "ModelVersion":
        """Return the version of a training whose registration is pending."""
        return cls(
            name=training.name,
            version=f"unregistered-{training.digest[:8]}",
            uri=training.uri,
            digest=training.digest,
            snapshot_uri=training.snapshot_uri,
            run_id="",
            metrics=training.metrics,
            lineage=training.lineage,
            created_at=datetime.now(UTC),
            release_uri=training.release_uri,
            release_digest=training.release_digest,
        )


def _reaching_mlflow(
    method: Callable[Concatenate["Registry", _Arguments], _Value],
) -> Callable[Concatenate["Registry", _Arguments], _Value]:
    """Raise a `RegistryUnreachableError` if MLflow does not answer a method's requests."""

    @functools.wraps(method)
    def wrapper(self: "Registry", /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Value:
        from mlflow.exceptions import MlflowException

        try:
            return method(self, *args, **kwargs)
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code in _ANSWERS:
                raise
            raise RegistryUnreachableError(
                f"The registry {self.uri} does not answer: {error}.",
                "Start MLflow at this address, or correct the MLflow tracking URI of the platform block.",
            ) from error

    return wrapper


class Registry:
    """Model versions in an MLflow tracking store.

    Args:
        tracking_uri: Such as `sqlite:////absolute/path/mlflow.db`. The file is created on first use, in two seconds.

    Every method raises a `RegistryUnreachableError` if MLflow does not answer.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri
        self._tracker = MlflowTracker(tracking_uri)

    @_reaching_mlflow
    def register(self, training: Training) -> ModelVersion:
        """Register a training's model as challenger. If the digest is registered, return its version.

        The version belongs to the training's MLflow run, if MLflow recorded the training.
        """
        version = self._with_digest(training.name, training.digest)
        if version is None:
            self._ensure_model(training.name)
            run = self._tracker.run_of(training.name, training.digest)
            version = self._client.create_model_version(
                training.name,
                source=training.uri,
                run_id=run.info.run_id if run else None,
                tags=dict(training.tags),
            )
        self._set_challenger(training.name, str(version.version))
        return self._read(version)

    @_reaching_mlflow
    def by_alias(self, name: str, alias: Alias) -> ModelVersion | None:
        """Return the version of an alias, or `None` if no version has it."""
        version = self._aliases(name).get(alias)
        return None if version is None else self.get(name, version)

    @_reaching_mlflow
    def get(self, name: str, version: str) -> ModelVersion:
        """Return a version.

        Raises:
            RegistryError: The model has no such version, or the version was not registered by Boat.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._read(self._client.get_model_version(name, version))
        except MlflowException as error:
            numbers = ", ".join(entry.version for entry in self.versions(name)) or "none"
            raise RegistryError(
                f"The model {name} has no version {version!r}. Its versions: {numbers}.",
                "Choose one of them, or register a new one with retrain/nightly.",
            ) from error

    @_reaching_mlflow
    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return all versions of a model, newest first."""
        entries = self._client.search_model_versions(f"name='{name}'")
        return tuple(self._read(entry) for entry in sorted(entries, key=lambda entry: -int(entry.version)))

    @_reaching_mlflow
    def record_gates(self, name: str, version: str, gates: str, lift: float) -> None:
        """Store the gates of a version as JSON, and its lift over a baseline."""
        self._tag(name, version, {_GATES: gates, _LIFT: str(lift)})

    @_reaching_mlflow
    def ask_for_approval(self, name: str, version: str) -> None:
        """Store that a person was asked now to approve the promotion of a version."""
        self._tag(name, version, {_APPROVAL_ASKED_AT: datetime.now(UTC).isoformat()})

    @_reaching_mlflow
    def lifts(self, name: str) -> tuple[CheckedLift, ...]:
        """Return the lifts of the versions whose gates were checked, oldest first, without versions rolled back."""
        entries = self._client.search_model_versions(f"name='{name}' and tags.{_LIFT} != ''")
        checked = [
            CheckedLift(str(entry.source), float(entry.tags[_LIFT]), _time(entry, _PROMOTED_AT))
            for entry in sorted(entries, key=lambda entry: int(entry.version))
            if _ROLLED_BACK_AT not in entry.tags
        ]
        return tuple(lift for lift in checked if math.isfinite(lift.value))

    @_reaching_mlflow
    def promote(self, name: str, version: str, run: str = "") -> ModelVersion:
        """Set a version as champion, and the old champion as previous. A second call changes nothing.

        The version stores which one it replaced, so that `roll_back` can go back further than one version.

        Args:
            name: Registered model.
            version: The version.
            run: Flow run of the promotion.

        Raises:
            RegistryError: The model has no such version.
        """
        promoted = self.get(name, version)
        aliases = self._aliases(name)
        champion = aliases.get("champion")
        if champion != version:
            # This order is safe: if it is interrupted, the champion is unchanged and a second call completes it.
            if champion is not None:
                self._client.set_model_version_tag(name, version, _REPLACED, champion)
                self._client.set_registered_model_alias(name, "previous", champion)
            self._tag(name, version, {_PROMOTED_AT: datetime.now(UTC).isoformat(), _PROMOTED_BY: run})
            self._client.delete_model_version_tag(name, version, _ROLLED_BACK_AT)
            self._client.set_registered_model_alias(name, "champion", version)
        if aliases.get("challenger") == version:
            self._client.delete_registered_model_alias(name, "challenger")
        return promoted

    @_reaching_mlflow
    def roll_back(self, name: str, to: str) -> ModelVersion:
        """Set an older version as champion, and the one that it had replaced as previous. Forget the present champion.

        The next rollback therefore goes back further, and never to a version that was rolled back. A second call
        changes nothing.

        Args:
            name: Registered model.
            to: The version.

        Raises:
            RegistryError: The model has no such version.
        """
        version = self.get(name, to)
        champion = self._aliases(name).get("champion")
        if champion == to:
            return version
        if champion is not None:
            self._tag(name, champion, {_ROLLED_BACK_AT: datetime.now(UTC).isoformat()})
        before = self._client.get_model_version(name, to).tags.get(_REPLACED)
        if before is None or before == champion:
            self._client.delete_registered_model_alias(name, "previous")
        else:
            self._client.set_registered_model_alias(name, "previous", before)
        self._client.set_registered_model_alias(name, "champion", to)
        return version

    @property
    def _client(self) -> "MlflowClient":
        return self._tracker.client

    def _tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(name, version, key, value)

    def _aliases(self, name: str) -> Mapping[str, str]:
        models = self._client.search_registered_models(f"name='{name}'")
        return {alias: str(version) for model in models for alias, version in model.aliases.items()}

    def _with_digest(self, name: str, digest: str) -> "MlflowVersion | None":
        entries = self._client.search_model_versions(f"name='{name}' and tags.{DIGEST}='{digest}'")
        return min(entries, key=lambda entry: int(entry.version), default=None)

    def _ensure_model(self, name: str) -> None:
        if not self._client.search_registered_models(f"name='{name}'"):
            self._client.create_registered_model(name)

    def _set_challenger(self, name: str, version: str) -> None:
        """Set a version as challenger, unless it has an alias or a newer version is the challenger."""
        aliases = self._aliases(name)
        if version not in aliases.values() and int(version) > int(aliases.get("challenger", 0)):
            self._client.set_registered_model_alias(name, "challenger", version)

    def _read(self, entry: "MlflowVersion") -> ModelVersion:
        run_id = entry.run_id or ""
        metrics = self._client.get_run(run_id).data.metrics if run_id else {}
        return ModelVersion(
            name=entry.name,
            version=str(entry.version),
            uri=entry.source or "",
            digest=_required(entry, DIGEST),
            snapshot_uri=_required(entry, SNAPSHOT_URI),
            run_id=run_id,
            metrics={key: value for key, value in metrics.items() if not key.startswith(CURVE)},
            lineage={key: value for key, value in entry.tags.items() if key not in _FIELDS},
            created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
            release_uri=entry.tags.get(RELEASE_URI, ""),
            release_digest=entry.tags.get(RELEASE_DIGEST, ""),
            gates=entry.tags.get(_GATES, ""),
            promoted_at=_time(entry, _PROMOTED_AT),
            promoted_by=entry.tags.get(_PROMOTED_BY, ""),
            approval_asked_at=_time(entry, _APPROVAL_ASKED_AT),
        )


def _time(entry: "MlflowVersion", name: str) -> datetime | None:
    value = entry.tags.get(name)
    return datetime.fromisoformat(value) if value else None


def _required(entry: "MlflowVersion", name: str) -> str:
    value = entry.tags.get(name)
    if value is None:
        raise RegistryError(
            f"Version {entry.version} of the model {entry.name} has no tag {name!r}: Boat did not register it.",
            "Delete this version in MLflow, and register a new one with retrain/nightly.",
        )
    return str(value)
