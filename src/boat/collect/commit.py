"""Group commit: requests that arrive while the disk is busy share the next sync."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from boat.collect.journal import Journal

_ROTATION_SECONDS = 1.0
_logger = logging.getLogger(__name__)


class _Group:
    """Lines that are written and synced together."""

    def __init__(self) -> None:
        self.accepted: list[bytes] = []
        self.failed: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class GroupCommit:
    """Writes to a journal for many requests at once, between `start` and `stop`.

    Args:
        journal: The journal to write to. Only a thread of this object calls it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._disk = ThreadPoolExecutor(1, "journal")
        self._gathering: _Group | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, accepted: bytes, failed: bytes) -> None:
        """Write lines and return once they are durable.

        Raises:
            OSError: The lines are not durable.
        """
        if self._gathering is None:
            self._gathering = _Group()
            self._arrived.set()
        group = self._gathering
        group.accepted.append(accepted)
        group.failed.append(failed)
        await asyncio.shield(group.done)  # a client that disconnects must not cancel the group

    async def start(self) -> None:
        """Start to write."""
        self._arrived = asyncio.Event()
        self._tasks = {asyncio.create_task(self._write()), asyncio.create_task(self._rotate())}

    async def stop(self) -> None:
        """Stop to write and complete the files. Call it when no `append` is running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._disk, self._journal.close)
        self._disk.shutdown()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            group, self._gathering = self._gathering, None
            if group is None:
                continue
            accepted, failed = b"".join(group.accepted), b"".join(group.failed)
            try:
                await loop.run_in_executor(self._disk, self._journal.append, accepted, failed)
            except OSError as error:
                _logger.error("Cannot write events: %s", error)
                group.done.set_exception(error)
                group.done.exception()  # marks it as retrieved: every client may have disconnected
            else:
                group.done.set_result(None)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(_ROTATION_SECONDS)
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, self._journal.rotate)
            except OSError as error:
                _logger.error("Cannot complete a landing file: %s", error)
