"""Artifacts that change while a task runs."""

import time
from collections.abc import Callable

from prefect import get_client
from prefect.artifacts import create_markdown_artifact


class LiveArtifact:
    """A markdown artifact that changes while its task runs.

    Args:
        key: Key of the artifact in the UI.
        description: Description of the artifact.
        every_seconds: Shortest pause between two updates. Each update is a request to the server.
    """

    def __init__(self, key: str, description: str, every_seconds: float = 5) -> None:
        self._key, self._description, self._pause = key, description, every_seconds
        self._id: str | None = None
        self._last = -every_seconds

    def update(self, draw: Callable[[], str], *, now: bool = False) -> None:
        """Publish the text that `draw` returns. Skip the update during the pause, except with `now`."""
        if not now and time.monotonic() - self._last < self._pause:
            return
        markdown = draw()
        if self._id is None:
            self._id = str(create_markdown_artifact(markdown, key=self._key, description=self._description))
        else:
            with get_client(sync_client=True) as client:
                # The client has no method for the API's update of an artifact.
                client._client.patch(f"/artifacts/{self._id}", json={"data": markdown}).raise_for_status()
        self._last = time.monotonic()
