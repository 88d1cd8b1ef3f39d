"""Landing files that grow: lines are durable when `append` returns.

Below `root`, which is `events/` in a landing folder:

    .open/NAME.ndjson                the open file; hidden from the loader, locked by its writer
    YYYY-MM-DD/NAME.ndjson           complete files, by the UTC day of their opening
    .dead-letter/YYYY-MM-DD/NAME.ndjson   the same for failed events

A killed process leaves its files in `.open/`. The next process completes them at its start.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

EVENTS, LETTERS = "", "-failed"
"""Suffix of the names of event files and of dead-letter files."""
MAX_BYTES = 64 * 1024**2
MAX_SECONDS = 60.0

_OPEN, _DEAD_LETTER = ".open", ".dead-letter"
_TAIL = 1 << 16


def file_name(kind: str) -> str:
    """Return a name for a new file. The loader recognises the collector's files by this form."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}{kind}.ndjson"


def relative_path(name: str) -> str:
    """Return the path of a complete file of this name below the root."""
    day = f"{name[:4]}-{name[4:6]}-{name[6:8]}/{name}"
    return f"{_DEAD_LETTER}/{day}" if name.endswith(f"{LETTERS}.ndjson") else day


@dataclass
class _OpenFile:
    """A file that its writer has locked. `size` counts the durable bytes."""

    path: Path
    descriptor: int
    since: float
    size: int = 0


class Journal:
    """The landing files of one process. It is not thread-safe.

    Args:
        root: Folder for the files; created if missing. Several processes may share it.
        max_bytes: Size at which a file is completed.
        max_seconds: Age at which a file is completed.

    Raises:
        OSError: The folder cannot be used.
    """

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> None:
        self._root, self._max_bytes, self._max_seconds = root, max_bytes, max_seconds
        self._files: dict[str, _OpenFile] = {}
        (root / _OPEN).mkdir(parents=True, exist_ok=True)
        self.recovered = tuple(self._recover())

    def append(self, accepted: bytes, failed: bytes) -> None:
        """Write complete lines and return once they are durable.

        Raises:
            OSError: The lines are not durable. Some may be in the file: sent again, they are duplicates.
        """
        for kind, lines in ((EVENTS, accepted), (LETTERS, failed)):
            if lines:
                self._append(kind, lines)
        self.rotate()

    def rotate(self) -> None:
        """Complete the files that have reached the largest size or age."""
        oldest = time.monotonic() - self._max_seconds
        for kind, file in list(self._files.items()):
            if file.size >= self._max_bytes or file.since <= oldest:
                self._complete(kind)

    def close(self) -> None:
        """Complete all files."""
        for kind in list(self._files):
            self._complete(kind)

    def _append(self, kind: str, lines: bytes) -> None:
        file = self._files.get(kind) or self._open_file(kind)
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(file.descriptor, rest) :]
            os.fdatasync(file.descriptor)
        except OSError:
            # After a failed sync, later syncs guarantee nothing: cut the file to its durable bytes.
            self._complete(kind, cut_at=file.size)
            raise
        file.size += len(lines)

    def _open_file(self, kind: str) -> _OpenFile:
        while True:
            path = self._root / _OPEN / file_name(kind)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
            if _lock(descriptor):
                break
            os.close(descriptor)  # another process that starts now has locked it in `_recover`
        _sync_folder(path.parent)
        self._files[kind] = file = _OpenFile(path, descriptor, time.monotonic())
        return file

    def _complete(self, kind: str, cut_at: int | None = None) -> None:
        file = self._files.pop(kind)
        try:
            if cut_at is not None:
                os.ftruncate(file.descriptor, cut_at)
            self._publish(file.path)
        finally:
            os.close(file.descriptor)  # closing unlocks it

    def _publish(self, path: Path) -> Path:
        """Move a complete file to its final path, for the loader. Delete an empty file."""
        if path.stat().st_size == 0:
            path.unlink()
            return path
        target = self._root / relative_path(path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        for changed in (target.parent, target.parent.parent, self._root, path.parent):
            _sync_folder(changed)
        return target

    def _recover(self) -> Iterator[Path]:
        """Complete the files of dead processes. Cut an incomplete last line, which was never acknowledged."""
        for path in sorted((self._root / _OPEN).glob("*.ndjson")):
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                if _lock(descriptor) and _is_at(descriptor, path):
                    os.ftruncate(descriptor, _whole_lines(descriptor))
                    os.fsync(descriptor)
                    yield self._publish(path)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the file is still at its path. Its writer may have moved it before unlocking it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _whole_lines(descriptor: int) -> int:
    """Return the number of bytes up to the end of the last complete line."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _TAIL)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
