"""Named endpoints and their models. An update loads the new model first, then switches. A restart restores all."""

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from boat import kinds
from boat.errors import BoatError, DataError, EndpointError
from boat.models.archive import unpack
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent, instances
from boat.serving.base import ServedModel

MAX_SESSIONS = 1000
"""Most sessions in a request. Each of them needs a score for every product."""

_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SMOKE: Sequence[Sequence[SessionEvent]] = (
    [],
    [{"event_type": "detail", "product_id": "smoke-test", "event_time": 1.0}, {"event_type": "pageview"}],
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """State of an endpoint. A request that holds it can use its model even after a switch.

    Attributes:
        name: Name of the endpoint.
        served: The model that answers.
        since: Time of the switch to this model, ISO 8601 in UTC.
        model: The loaded model, or None if it could not be loaded after a restart.
    """

    name: str
    served: ServedModel
    since: str
    model: SavedModel | None


class Endpoints:
    """The endpoints of one host. All methods are thread-safe.

    Args:
        state: Folder for `endpoints.json` and the unpacked models. Hosts must not share it.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._endpoints: dict[str, Endpoint] = {}
        self._updating: set[str] = set()
        self._one_update = threading.Lock()  # loading needs memory and both cores

    def restore(self) -> None:
        """Load the endpoints of the last run. If a model cannot be loaded, the other endpoints still answer.

        Raises:
            EndpointError: The state cannot be read.
        """
        path = self._state / "endpoints.json"
        try:
            records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            saved = {name: (record.pop("since"), ServedModel(**record)) for name, record in records.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise EndpointError(
                f"Cannot read the endpoints in {path} ({error!r}).",
                "Move that file away and run promote/latest: it deploys the champions again.",
            ) from error
        for name, (since, served) in saved.items():
            self._endpoints[name] = Endpoint(name, served, since, self._restored(name, served))

    def get(self, name: str) -> Endpoint | None:
        """Return the current state of an endpoint, or None if it does not exist."""
        return self._endpoints.get(name)

    def all(self) -> tuple[Endpoint, ...]:
        """Return all endpoints, sorted by name."""
        return tuple(endpoint for _, endpoint in sorted(self._endpoints.items()))

    def status(self, endpoint: Endpoint) -> str:
        """Return SageMaker's word for the status: `InService`, `Updating` (it still answers) or `Failed`."""
        if endpoint.name in self._updating:
            return "Updating"
        return "Failed" if endpoint.model is None else "InService"

    def update(self, name: str, served: ServedModel) -> Endpoint:
        """Load, warm up and test a model, then switch the endpoint to it. Running requests finish with the old model.

        Raises:
            EndpointError: Wrong name, wrong kind of model, or a model that gives wrong answers.
            ArtifactError: The archive is damaged, or does not match the digest.
        """
        _check_request(name, served)
        with self._one_update:
            self._updating.add(name)
            try:
                return self._switch(name, served)
            finally:
                self._updating.discard(name)

    def _switch(self, name: str, served: ServedModel) -> Endpoint:
        old = self._endpoints.get(name)
        if old and old.model and old.served.digest == served.digest:
            endpoint = replace(old, served=served)
        else:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            endpoint = Endpoint(name, served, since, self._load(name, served))
        # Saved before the switch: a crash must not bring the old model back.
        self._save({**self._endpoints, name: endpoint})
        self._endpoints[name] = endpoint
        self._prune(name, keep={served.digest, old.served.digest if old else served.digest})
        return endpoint

    def _load(self, name: str, served: ServedModel) -> SavedModel:
        folder = self._state / name / served.digest
        model = self._unpacked(folder)
        if model is None:
            model = SavedModel(folder, unpack(_path(served.uri), folder, served.digest))
        check_model(name, served.uri, model)
        return model

    def _unpacked(self, folder: Path) -> SavedModel | None:
        """Return a model that is already unpacked, so that a rollback needs no archive. None if absent or damaged."""
        try:
            return SavedModel(folder) if folder.is_dir() else None
        except BoatError:
            return None

    def _restored(self, name: str, served: ServedModel) -> SavedModel | None:
        try:
            return self._load(name, served)
        except BoatError as error:
            _log.error("Endpoint %s cannot load version %s: %s", name, served.version, error)
            return None

    def _save(self, endpoints: Mapping[str, Endpoint]) -> None:
        records = {name: {**asdict(endpoint.served), "since": endpoint.since} for name, endpoint in endpoints.items()}
        self._state.mkdir(parents=True, exist_ok=True)
        path = self._state / "endpoints.json"
        fresh = path.with_suffix(".tmp")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(records, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def _prune(self, name: str, keep: set[str]) -> None:
        for folder in (self._state / name).iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)


def check_model(name: str, uri: str, model: SavedModel) -> None:
    """Warm up and test a model before an endpoint uses it.

    Raises:
        EndpointError: The model is of the wrong kind for this endpoint, or gives wrong answers.
        ArtifactError: The model does not answer.
    """
    kind = kinds.kind_of(name) or model.kind
    if model.kind != kind:
        raise EndpointError(f"Endpoint {name} takes a {kind} model, but {uri} is of kind {model.kind}.")
    model.warm()
    _smoke_test(name, model)


def predict(endpoint: Endpoint, body: bytes) -> bytes:
    """Return `{"predictions": […]}` for the body of a request, `{"instances": […]}`.

    Raises:
        DataError: The body has another form.
        EndpointError: The model does not answer.
    """
    if endpoint.model is None:
        raise EndpointError(f"Version {endpoint.served.version} of endpoint {endpoint.name} could not be loaded.")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"The body is not JSON ({error}).") from error
    if not isinstance(request, dict) or not isinstance(request.get("instances"), list):
        raise DataError('The body is not an object with a list "instances".')
    sessions = request["instances"]
    if len(sessions) > MAX_SESSIONS:
        raise DataError(f"The request has {len(sessions)} instances.", f"Send at most {MAX_SESSIONS}.")
    try:
        return json.dumps({"predictions": endpoint.model.predict(sessions)}, allow_nan=False).encode()
    except BoatError:
        raise
    except Exception as error:  # TensorFlow raises many types; each must become an answer with a message
        raise EndpointError(f"The model of endpoint {endpoint.name} failed ({error}).") from error


def _check_request(name: str, served: ServedModel) -> None:
    if not _NAME.fullmatch(name):
        raise EndpointError(
            f"{name!r} is not a valid name of an endpoint.", "Use at most 63 letters, digits and hyphens."
        )
    if not _DIGEST.fullmatch(served.digest):
        raise EndpointError(f"{served.digest!r} is not a SHA-256 in hex.", "Use the digest from the registry.")
    if not _path(served.uri).is_absolute():
        raise EndpointError(
            f"{served.uri!r} is not an absolute path.", "This host reads models from its own disk only."
        )


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _smoke_test(name: str, model: SavedModel) -> None:
    answers = model.predict(instances(_SMOKE))
    if len(answers) != len(_SMOKE) or not all(map(kinds.load(model.kind).is_valid_answer, answers)):
        raise EndpointError(f"The new model for endpoint {name} gives wrong answers: {answers!r:.200}.", "Retrain it.")
