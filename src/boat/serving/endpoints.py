"""Named endpoints and their models: loaded beside the old one, switched at once, there again after a crash."""

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
"""Sessions in one request: each takes a row of scores as long as the catalogue."""

_NAME = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SMOKE: Sequence[Sequence[SessionEvent]] = (
    [],
    [{"event_type": "detail", "product_id": "smoke-test", "event_time": 1.0}, {"event_type": "pageview"}],
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """One endpoint at one moment. Whoever holds it can go on asking its model after a switch.

    Attributes:
        name: Stable name.
        served: What it answers with.
        since: Since when, ISO 8601, UTC.
        model: The loaded model; None where it could not be loaded again after a restart.
    """

    name: str
    served: ServedModel
    since: str
    model: SavedModel | None


class Endpoints:
    """The endpoints of one host. All methods may be called from many threads.

    Args:
        state: Folder of this host alone: `endpoints.json` and the unpacked models.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._endpoints: dict[str, Endpoint] = {}
        self._updating: set[str] = set()
        self._one_update = threading.Lock()  # loading takes memory and both cores

    def restore(self) -> None:
        """Load what was served when the host last ran. A model that does not load leaves the others answering.

        Raises:
            EndpointError: The state cannot be read.
        """
        path = self._state / "endpoints.json"
        try:
            records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            kept = {name: (record.pop("since"), ServedModel(**record)) for name, record in records.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise EndpointError(
                f"Cannot read the endpoints in {path} ({error!r}).",
                "Move it away and run promote/latest: it puts the champions back.",
            ) from error
        for name, (since, served) in kept.items():
            self._endpoints[name] = Endpoint(name, served, since, self._restored(name, served))

    def get(self, name: str) -> Endpoint | None:
        """The endpoint as it is now; None where there is none of that name."""
        return self._endpoints.get(name)

    def all(self) -> tuple[Endpoint, ...]:
        """All endpoints, by name."""
        return tuple(endpoint for _, endpoint in sorted(self._endpoints.items()))

    def status(self, endpoint: Endpoint) -> str:
        """`InService`, `Updating` (it answers meanwhile) or `Failed`, as SageMaker calls them."""
        if endpoint.name in self._updating:
            return "Updating"
        return "Failed" if endpoint.model is None else "InService"

    def update(self, name: str, served: ServedModel) -> Endpoint:
        """Load, warm and try a model beside the one that answers, then switch. Requests under way end with the old one.

        Raises:
            EndpointError: Wrong name, wrong kind of model, or it does not answer as it should.
            ArtifactError: The archive is damaged or not the one the digest names.
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
        self._save({**self._endpoints, name: endpoint})  # before the switch: after a crash the newest answers
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
        """The model of an earlier unpacking: a roll back needs no archive. None where it is absent or damaged."""
        try:
            return SavedModel(folder) if folder.is_dir() else None
        except BoatError:
            return None

    def _restored(self, name: str, served: ServedModel) -> SavedModel | None:
        try:
            return self._load(name, served)
        except BoatError as error:
            _log.error("Endpoint %s does not answer with version %s: %s", name, served.version, error)
            return None

    def _save(self, endpoints: Mapping[str, Endpoint]) -> None:
        records = {name: {**asdict(kept.served), "since": kept.since} for name, kept in endpoints.items()}
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
    """Warm and try a model, before it answers for an endpoint.

    Raises:
        EndpointError: It is of the wrong kind for this endpoint, or gives no sound answer.
        ArtifactError: It does not answer.
    """
    kind = kinds.kind_of(name) or model.kind
    if model.kind != kind:
        raise EndpointError(f"Endpoint {name} takes a {kind} model, {uri} is for {model.kind}.")
    model.warm()
    _smoke_test(name, model)


def predict(endpoint: Endpoint, body: bytes) -> bytes:
    """Answer the body of a request, `{"instances": […]}`, with `{"predictions": […]}`.

    Raises:
        DataError: The body is not that.
        EndpointError: The model does not answer.
    """
    if endpoint.model is None:
        raise EndpointError(f"Version {endpoint.served.version} of endpoint {endpoint.name} did not load.")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"The body is not JSON ({error}).") from error
    if not isinstance(request, dict) or not isinstance(request.get("instances"), list):
        raise DataError('The body is not an object with a list "instances".')
    sessions = request["instances"]
    if len(sessions) > MAX_SESSIONS:
        raise DataError(f"{len(sessions)} instances in one request.", f"Send at most {MAX_SESSIONS}.")
    try:
        return json.dumps({"predictions": endpoint.model.predict(sessions)}, allow_nan=False).encode()
    except BoatError:
        raise
    except Exception as error:  # TensorFlow raises many kinds; none of them may end in a bare 500
        raise EndpointError(f"The model of endpoint {endpoint.name} failed ({error}).") from error


def _check_request(name: str, served: ServedModel) -> None:
    if not _NAME.fullmatch(name):
        raise EndpointError(f"{name!r} is no name for an endpoint.", "Use letters, digits and hyphens, 63 at most.")
    if not _DIGEST.fullmatch(served.digest):
        raise EndpointError(f"{served.digest!r} is no SHA-256 in hex.", "Use the digest the registry keeps.")
    if not _path(served.uri).is_absolute():
        raise EndpointError(f"{served.uri!r} is no absolute path.", "This host reads models from its own machine.")


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def _smoke_test(name: str, model: SavedModel) -> None:
    answers = model.predict(instances(_SMOKE))
    if len(answers) != len(_SMOKE) or not all(map(kinds.load(model.kind).is_valid_answer, answers)):
        raise EndpointError(
            f"The new model for endpoint {name} gives no sound answer: {answers!r:.200}.", "Retrain it."
        )
