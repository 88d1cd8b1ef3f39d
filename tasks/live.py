"""Artifacts that change while a task runs."""

import time
from collections.abc import Callable

import httpx
from prefect import get_client, get_run_logger, runtime


class LiveArtifact:
    """A markdown artifact that changes while its task runs. Create it in the task; any thread may update it.

    Args:
        key: Key of the artifact in the UI.
        description: Description of the artifact.
        every_seconds: Shortest pause between two updates. Each update is a request to the server.
    """

    def __init__(self, key: str, description: str, every_seconds: float = 5) -> None:
        run_ids = {"flow_run_id": runtime.flow_run.id, "task_run_id": runtime.task_run.id}
        self._new = {"key": key, "type": "markdown", "description": description, **run_ids}
        self._logger = get_run_logger()
        self._pause = every_seconds
        self._id: str | None = None
        self._last = -every_seconds

    def update(self, draw: Callable[[], str], *, now: bool = False) -> None:
        """Publish the text that `draw` returns. Skip the update during the pause, except with `now`.

        The work goes on if the server does not answer.
        """
        if not now and time.monotonic() - self._last < self._pause:
            return
        try:
            self._publish(draw())
        except httpx.HTTPError as error:
            self._logger.warning("The artifact %s has not changed: %s", self._new["key"], error)
        self._last = time.monotonic()

    def _publish(self, markdown: str) -> None:
        with get_client(sync_client=True) as client:
            # The client has no method for the API's update of an artifact, and its `create` needs an event loop.
            if self._id is None:
                created = client._client.post("/artifacts/", json={**self._new, "data": markdown})
                self._id = created.raise_for_status().json()["id"]
            else:
                client._client.patch(f"/artifacts/{self._id}", json={"data": markdown}).raise_for_status()
