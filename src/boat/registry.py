"""The model registry: one MLflow run a training, model versions with the aliases challenger, champion and previous."""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from boat.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

Alias = Literal["challenger", "champion", "previous"]

_DIGEST = "digest"
_CURVE = "curve/"
"""Metrics of a learning curve are logged under this prefix, apart from those of the evaluation."""

_BATCH = 1000
"""MLflow takes no more metrics at once."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered model.

    Attributes:
        name: Registered model, named like its endpoint.
        version: Number the registry gave it.
        uri: Where the `model.tar.gz` lies.
        digest: SHA-256 of that file.
        run_id: MLflow run of its training.
        metrics: Evaluation on the test days.
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


class Registry:
    """Model versions in an MLflow tracking store.

    Args:
        tracking_uri: Such as `sqlite:////absolute/path/mlflow.db`; the file is made on first use (two seconds).
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def register(
        self,
        name: str,
        uri: str,
        digest: str,
        *,
        metrics: Mapping[str, float],
        parameters: Mapping[str, str],
        lineage: Mapping[str, str],
        curve: Sequence[Mapping[str, Any]] = (),
    ) -> ModelVersion:
        """Record a training and make its model the challenger. The same digest again gives the version it has.

        Args:
            name: Registered model.
            uri: Where the `model.tar.gz` lies.
            digest: SHA-256 of that file.
            metrics: Evaluation on the test days.
            parameters: What the training was told.
            lineage: What the model was made from; kept as tags of run and version.
            curve: One mapping an epoch, with `epoch` and numbers.
        """
        version = self._with_digest(name, digest)
        if version is None:
            self._make_model(name)
            run_id = self._run(name, digest, lineage)
            self._log(run_id, metrics, parameters, curve)
            tags = {**lineage, _DIGEST: digest}
            version = self._client.create_model_version(name, source=uri, run_id=run_id, tags=tags)
        self._challenge(name, str(version.version))
        return self._read(version)

    def by_alias(self, name: str, alias: Alias) -> ModelVersion | None:
        """The version that an alias points to; None where there is none."""
        version = self._aliases(name).get(alias)
        return None if version is None else self.get(name, version)

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

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """All versions of a model, newest first."""
        found = self._client.search_model_versions(f"name='{name}'")
        return tuple(self._read(entry) for entry in sorted(found, key=lambda entry: -int(entry.version)))

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

    @cached_property
    def _client(self) -> "MlflowClient":
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        from mlflow import MlflowClient

        for noisy in ("alembic", "mlflow.store.db.utils"):  # narrates the making of its tables
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(self._uri)

    def _aliases(self, name: str) -> Mapping[str, str]:
        models = self._client.search_registered_models(f"name='{name}'")
        return {alias: str(version) for model in models for alias, version in model.aliases.items()}

    def _with_digest(self, name: str, digest: str) -> "MlflowVersion | None":
        found = self._client.search_model_versions(f"name='{name}' and tags.{_DIGEST}='{digest}'")
        return min(found, key=lambda entry: int(entry.version), default=None)

    def _make_model(self, name: str) -> None:
        if not self._client.search_registered_models(f"name='{name}'"):
            self._client.create_registered_model(name)

    def _challenge(self, name: str, version: str) -> None:
        """Make a version the challenger, if it has not been more than that and no newer one is."""
        aliases = self._aliases(name)
        if version not in aliases.values() and int(version) > int(aliases.get("challenger", 0)):
            self._client.set_registered_model_alias(name, "challenger", version)

    def _run(self, name: str, digest: str, lineage: Mapping[str, str]) -> str:
        """The training's run; one that an interrupted call left is used again."""
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        left = self._client.search_runs([experiment_id], f"tags.{_DIGEST}='{digest}'", max_results=1)
        if left:
            return str(left[0].info.run_id)
        tags = {**lineage, _DIGEST: digest}
        return str(self._client.create_run(experiment_id, tags=tags, run_name=f"{name} {digest[:8]}").info.run_id)

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        parameters: Mapping[str, str],
        curve: Sequence[Mapping[str, Any]],
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        logged = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
        logged += _curve(curve, now)
        for start in range(0, len(logged), _BATCH):
            self._client.log_batch(run_id, metrics=logged[start : start + _BATCH])
        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
        self._client.set_terminated(run_id)

    def _read(self, entry: "MlflowVersion") -> ModelVersion:
        run_id = entry.run_id or ""
        run = self._client.get_run(run_id)
        return ModelVersion(
            name=entry.name,
            version=str(entry.version),
            uri=entry.source or "",
            digest=entry.tags[_DIGEST],
            run_id=run_id,
            metrics={key: value for key, value in run.data.metrics.items() if not key.startswith(_CURVE)},
            lineage={key: value for key, value in entry.tags.items() if key != _DIGEST},
            created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        )


def _curve(curve: Sequence[Mapping[str, Any]], timestamp: int) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    for step, epoch in enumerate(curve, start=1):
        for key, value in epoch.items():
            if key != "epoch" and isinstance(value, int | float) and math.isfinite(value):
                yield Metric(f"{_CURVE}{key}", float(value), timestamp, int(epoch.get("epoch", step)))
