"""Open landing files, compressed or not."""

import gzip
from pathlib import Path
from typing import IO

GZIP_SUFFIX = ".gz"
BLOCK = 1 << 20


def open_binary(path: Path) -> IO[bytes]:
    """Open a file, decompressed."""
    return gzip.open(path) if path.name.lower().endswith(GZIP_SUFFIX) else path.open("rb")  # type: ignore[return-value]


def open_text(path: Path) -> IO[str]:
    """Open a text file. Undecodable bytes become surrogates, so that a reader can name their line."""
    if path.name.lower().endswith(GZIP_SUFFIX):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
