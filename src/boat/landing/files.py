"""Files of a landing folder: kind, format, layout and digest."""

import csv
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from boat.errors import DataError
from boat.landing.layouts import Export
from boat.landing.streams import GZIP_SUFFIX, open_text

FileKind = Literal[
    "events", "catalogue", "orders", "coveo_browsing", "coveo_search", "coveo_catalogue", "coveo_names", "dead_letters"
]
Format = Literal["csv", "ndjson", "json", "parquet"]
_DELIMITERS = ",;\t|"
_COLLECTED = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8,16}(-failed)?\.ndjson")


@dataclass(frozen=True)
class LandingFile:
    """A file that can be loaded.

    Attributes:
        path: Path.
        name: Name in errors and in the ledger: the path relative to the loaded folder.
        kind: Kind of its rows.
        format: `json` is one array of objects, `ndjson` has one object per line.
        names: Second file that it needs: product names of a Coveo catalogue, or orders of Instacart.
        layout: The known export, if it is one.
        has_header: Whether the first line of a CSV file has the column names.
    """

    path: Path
    name: str
    kind: FileKind
    format: Format
    names: "LandingFile | None" = None
    layout: Export | None = None
    has_header: bool = True

    def position(self, line: int) -> str:
        """Return `name:line`, where the header is line 1; or the row for Parquet and arrays."""
        return f"{self.name}: row {line}" if self.format in {"parquet", "json"} else f"{self.name}:{line}"

    @property
    def is_json(self) -> bool:
        """Return whether its rows are JSON objects."""
        return self.format in {"ndjson", "json"}

    @property
    def is_compressed(self) -> bool:
        """Return whether it is compressed with gzip."""
        return self.path.name.lower().endswith(GZIP_SUFFIX)

    @cached_property
    def delimiter(self) -> str:
        """Return the character that splits the header of a CSV file into most fields; a comma in doubt."""
        with open_text(self.path) as stream:
            header = next((line for line in stream if line.strip()), "")
        return max(_DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))

    @property
    def is_collected(self) -> bool:
        """Return whether the collector wrote it, so that no person can correct it."""
        return _COLLECTED.fullmatch(self.path.name) is not None

    @property
    def header_position(self) -> str:
        """Return the position of the column names."""
        return self.name if self.format == "parquet" else f"{self.name}:1"

    @property
    def first_line(self) -> int:
        """Return the line, or row, of the first record."""
        return 2 if self.format == "csv" and self.has_header else 1


@dataclass(frozen=True)
class Ignored:
    """A file that is not loaded.

    Attributes:
        path: Path.
        name: Path relative to the loaded folder.
        reason: Reason, written to follow "the file".
    """

    path: Path
    name: str
    reason: str


def digest(file: LandingFile) -> str:
    """Return the SHA-256 of a file's bytes, and of its second file, in hex.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with file.path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256")
    except OSError as error:
        raise DataError(f"{file.name}: the file cannot be read ({error}).", "Check its permissions.") from error
    if file.names:
        content.update(bytes.fromhex(digest(file.names)))
    return content.hexdigest()
