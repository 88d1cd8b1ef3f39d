"""Trainings that the registry has not taken yet. They wait in the artifact store, oldest first.

A training is put here before it is registered and taken away after it. So a registry that is down, or a run that is
killed in between, loses nothing: who registers next registers what waits.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime

from boat import store
from boat.registry.tracking import Training
from boat.registry.versions import ModelVersion, Registry


class WaitingRoom:
    """Where trainings wait.

    Args:
        artifacts: The artifact store.
    """

    def __init__(self, artifacts: str) -> None:
        self._folder = store.join(artifacts, "unregistered")

    def add(self, training: Training) -> None:
        """Let a training wait. One that waits already keeps its place."""
        if not any(name.endswith(_ending(training)) for name in store.names(self._of(training.name))):
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}{_ending(training)}"
            store.publish_bytes(json.dumps(asdict(training)).encode(), store.join(self._of(training.name), name))

    def register(self, name: str, registry: Registry, before: Callable[[Training], None]) -> ModelVersion | None:
        """Register the trainings of a model that wait.

        Args:
            name: Registered model.
            registry: Where.
            before: Called with each before it is registered.

        Returns:
            The newest of them; None where none waited.

        Raises:
            RegistryUnreachableError: The registry does not answer. They wait on.
        """
        newest = None
        for file in store.names(self._of(name)):
            uri = store.join(self._of(name), file)
            training = Training(**json.loads(store.read_text(uri)))
            before(training)
            newest = registry.register(training)
            store.remove(uri)
        return newest

    def _of(self, name: str) -> str:
        return store.join(self._folder, name)


def _ending(training: Training) -> str:
    return f"-{training.digest[:16]}.json"
