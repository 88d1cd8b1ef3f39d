"""The model registry: versions in MLflow with the aliases challenger, champion and previous."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

from boat.errors import RegistryError, RegistryUnreachableError
from boat.registry.tracking import CURVE, DIGEST, MlflowTracker, Training

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

Alias = Literal["challenger", "champion", "previous"]

_ANSWERS = {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE", "INVALID_STATE"}
"""Codes of MLflow's errors that are an answer; with others, such as INTERNAL_ERROR, it is down or not well."""

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ModelVersion:
    """A registered model.

    Attributes:
        name: Registered model, named like its endpoint.
        version: Number the registry gave it.
        uri: Where the `model.tar.gz` lies.
        digest: SHA-256 of that file.
        run_id: MLflow run of its training; empty where MLflow did not record it.
        metrics: Evaluation on the test days, as far as they were recorded.
        lineage: What it was made from: snapshot, code, dbt manifest, flow run.
        created_at: When it was registered, UTC.
    """

    name: str
    version: str
    uri: str
    digest: str
    run_id: str
    metrics: Mapping[str, float]
    lineage: Mapping[str, str]
    created_at: datetime

    @property
    def is_registered(self) -> bool:
        """Whether the registry knows it."""
        return self.version.isdecimal()

    @classmethod
    def unregistered(cls, training: Training) -> "ModelVersion":
        """A training that waits for the registry; its version says so."""
        return cls(
            name=training.name,
            version=f"unregistered-{training.digest[:8]}",
            uri=training.uri,
            digest=training.digest,
            run_id="",
            metrics=training.metrics,
            lineage=training.lineage,
            created_at=datetime.now(UTC),
        )


def _answered(
    method: Callable[Concatenate["Registry", _Given], _Result],
) -> Callable[Concatenate["Registry", _Given], _Result]:
    """Say of a method's errors whether MLflow answered at all."""

    @functools.wraps(method)
    def asked(self: "Registry", /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        from mlflow.exceptions import MlflowException

        try:
            return method(self, *args, **kwargs)
        except (MlflowException, OSError) as error:
            if isinstance(error, MlflowException) and error.error_code in _ANSWERS:
                raise
            raise RegistryUnreachableError(
                f"The registry {self.uri} does not answer ({error}).",
                "Start MLflow there, or correct the MLflow tracking URI of the platform block.",
            ) from error

    return asked


class Registry:
    """Model versions in an MLflow tracking store.

    Args:
        tracking_uri: Such as `sqlite:////absolute/path/mlflow.db`; the file is made on first use (two seconds).

    Every method raises a `RegistryUnreachableError` where MLflow does not answer, or not well.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri
        self._tracker = MlflowTracker(tracking_uri)

    @_answered
    def register(self, training: Training) -> ModelVersion:
        """Make a training's model the challenger. The same digest again gives the version it has.

        The version belongs to the run that MLflow's tracker made of the training, if it did.
        """
        version = self._with_digest(training.name, training.digest)
        if version is None:
            self._make_model(training.name)
            run = self._tracker.run_of(training.name, training.digest)
            version = self._client.create_model_version(
                training.name,
                source=training.uri,
                run_id=run.info.run_id if run else None,
                tags={**training.lineage, DIGEST: training.digest},
            )
        self._challenge(training.name, str(version.version))
        return self._read(version)

    @_answered
    def by_alias(self, name: str, alias: Alias) -> ModelVersion | None:
        """The version that an alias points to; None where there is none."""
        version = self._aliases(name).get(alias)
        return None if version is None else self.get(name, version)

    @_answered
    def get(self, name: str, version: str) -> ModelVersion:
        """One version.

        Raises:
            RegistryError: There is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._read(self._client.get_model_version(name, version))
        except MlflowException as error:
            known = ", ".join(entry.version for entry in self.versions(name)) or "none"
            raise RegistryError(
                f"Model {name} has no version {version!r}.", f"Registered: {known}; a retrain registers one."
            ) from error

    @_answered
    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of a model, newest first."""
        found = self._client.search_model_versions(f"name='{name}'")
        return tuple(self._read(entry) for entry in sorted(found, key=lambda entry: -int(entry.version)))

    @_answered
    def promote(self, name: str, version: str) -> ModelVersion:
        """Make a version the champion and the champion the previous one. Doing it twice changes nothing more.

        Raises:
            RegistryError: There is no such version.
        """
        promoted = self.get(name, version)
        aliases = self._aliases(name)
        champion = aliases.get("champion")
        if champion != version:
            if (
                champion is not None
            ):  # first: interrupted here, the champion still stands and a second call completes it
                self._client.set_registered_model_alias(name, "previous", champion)
            self._client.set_registered_model_alias(name, "champion", version)
        if aliases.get("challenger") == version:
            self._client.delete_registered_model_alias(name, "challenger")
        return promoted

    @_answered
    def roll_back(self, name: str, to: str | None = None) -> ModelVersion:
        """Make the previous version the champion again; the champion becomes the previous one.

        So a second roll back takes the first one back. A caller that repeats the call after an error passes the
        version it read before as `to`; then doing it twice changes nothing more.

        Raises:
            RegistryError: There is no previous version.
        """
        aliases = self._aliases(name)
        version = to or aliases.get("previous")
        if version is None or (to is None and version == aliases.get("champion")):
            raise RegistryError(
                f"Model {name} has no previous version to roll back to (champion: {aliases.get('champion', 'none')}).",
                "A version becomes the previous one when another is promoted over it.",
            )
        return self.promote(name, version)

    @property
    def _client(self) -> "MlflowClient":
        return self._tracker.client

    def _aliases(self, name: str) -> Mapping[str, str]:
        models = self._client.search_registered_models(f"name='{name}'")
        return {alias: str(version) for model in models for alias, version in model.aliases.items()}

    def _with_digest(self, name: str, digest: str) -> "MlflowVersion | None":
        found = self._client.search_model_versions(f"name='{name}' and tags.{DIGEST}='{digest}'")
        return min(found, key=lambda entry: int(entry.version), default=None)

    def _make_model(self, name: str) -> None:
        if not self._client.search_registered_models(f"name='{name}'"):
            self._client.create_registered_model(name)

    def _challenge(self, name: str, version: str) -> None:
        """Make a version the challenger, if it has not been more than that and no newer one is."""
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
            digest=entry.tags[DIGEST],
            run_id=run_id,
            metrics={key: value for key, value in metrics.items() if not key.startswith(CURVE)},
            lineage={key: value for key, value in entry.tags.items() if key != DIGEST},
            created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        )
