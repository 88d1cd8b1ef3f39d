"""Trainings whose registration is pending, in the artifact store.

A training is added before its registration and removed after it. If the registry is down, or a run is killed in
between, the training is not lost: the next registration of the same model completes it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from boat import store
from boat.registry.tracking import SNAPSHOT_URI, Training
from boat.registry.versions import ModelVersion, Registry


class PendingRegistrations:
    """A queue of trainings for each model, oldest first.

    Args:
        artifacts: URI of the artifact store.
    """

    def __init__(self, artifacts: str) -> None:
        self._folder = store.join(artifacts, "unregistered")

    def add(self, training: Training) -> None:
        """Add a training. One that is already pending keeps its position."""
        folder = self._folder_of(training.name)
        if not any(name.endswith(_ending(training)) for name in store.names(folder)):
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}{_ending(training)}"
            store.publish_bytes(json.dumps(asdict(training)).encode(), store.join(folder, name))

    def register(self, name: str, registry: Registry, before: Callable[[Training], None]) -> ModelVersion | None:
        """Register the pending trainings of a model.

        Args:
            name: Registered model.
            registry: The registry that creates the versions.
            before: Called with each training before its registration.

        Returns:
            The newest version. `None` if no training was pending.

        Raises:
            RegistryUnreachableError: The registry does not answer. The trainings remain pending.
        """
        newest = None
        folder = self._folder_of(name)
        for file in store.names(folder):
            uri = store.join(folder, file)
            training = _parse(store.read_text(uri))
            before(training)
            newest = registry.register(training)
            store.remove(uri)
        return newest

    def _folder_of(self, name: str) -> str:
        return store.join(self._folder, name)


def _parse(text: str) -> Training:
    fields = json.loads(text)
    if SNAPSHOT_URI not in fields:  # written before 0.1.0, when the URI was a part of the lineage
        fields[SNAPSHOT_URI] = fields["lineage"].pop(SNAPSHOT_URI)
    return Training(**fields)


def _ending(training: Training) -> str:
    return f"-{training.digest[:16]}.json"
