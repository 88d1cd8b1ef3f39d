"""What lies in a landing folder, and what a file says about itself before a row of it is loaded."""

import csv
import gzip
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from boat.errors import DataError
from boat.landing import layouts
from boat.landing.layouts import Export, Unwanted

Kind = Literal[
    "events", "catalogue", "orders", "coveo_browsing", "coveo_search", "coveo_catalogue", "coveo_names", "dead_letters"
]
Format = Literal["csv", "ndjson", "json", "parquet"]

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
}
_PACKED = ".gz"
_HOW_FILES_ARE_KNOWN = (
    f"Known endings: {', '.join(_FORMATS)}, also with {_PACKED}. docs/exports.md has the files of known exports."
)
_HEADERLESS = ".dat"
"""Ending of a file of a layout whose files have no header line."""
_DELIMITERS = ",;\t|"
_COVEO: dict[str, Kind] = {
    "browsing_train": "coveo_browsing",
    "search_train": "coveo_search",
    "sku_to_content": "coveo_catalogue",
    "product_names": "coveo_names",
}
_DEAD_LETTER = ".dead-letter"
"""Where the collector puts the events that it did not take: the one hidden folder that is looked into."""
_COLLECTED = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8,16}(-failed)?\.ndjson")
_BLOCK = 1 << 20
_MAX_LINE = 2_000_000  # DuckDB takes no longer ones
_FIRST_OBJECTS = 50


@dataclass(frozen=True)
class LandingFile:
    """A file that can be loaded.

    Attributes:
        path: Where it is.
        name: How errors and the ledger call it: its path below the folder that was loaded.
        kind: What its rows are.
        format: How they are written; `json` is one array of objects, `ndjson` an object a line.
        names: The file that goes with it, if there is one: of product names for a Coveo catalogue, of orders for order
            lines of Instacart.
        layout: The export that it is of, if it is a known one.
        has_header: Whether the first line of a CSV file names the columns.
    """

    path: Path
    name: str
    kind: Kind
    format: Format
    names: "LandingFile | None" = None
    layout: Export | None = None
    has_header: bool = True

    def place(self, line: int) -> str:
        """`name:line` as an editor counts, where the header is line 1; the row for Parquet and arrays."""
        return f"{self.name}: row {line}" if self.format in {"parquet", "json"} else f"{self.name}:{line}"

    @property
    def is_json(self) -> bool:
        """Whether its rows are JSON objects."""
        return self.format in {"ndjson", "json"}

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed with gzip."""
        return self.path.name.lower().endswith(_PACKED)

    @cached_property
    def delimiter(self) -> str:
        """The character that splits the header of a CSV file into most fields; a comma in doubt."""
        with _open_text(self.path) as stream:
            header = next((line for line in stream if line.strip()), "")
        return max(_DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))

    @property
    def is_collected(self) -> bool:
        """Whether the collector wrote it, so that no person is there to correct it."""
        return _COLLECTED.fullmatch(self.path.name) is not None

    @property
    def header_place(self) -> str:
        """Where the names of the columns are."""
        return self.name if self.format == "parquet" else f"{self.name}:1"

    @property
    def first_line(self) -> int:
        """The line, or row, of the first record."""
        return 2 if self.format == "csv" and self.has_header else 1


@dataclass(frozen=True)
class Ignored:
    """A file that is not loaded.

    Attributes:
        path: Where it is.
        name: Its path below the folder that was loaded.
        reason: Why, for a person to read.
    """

    path: Path
    name: str
    reason: str


def discover(source: Path, layout: str | None = None) -> tuple[tuple[LandingFile, ...], tuple[Ignored, ...]]:
    """Return the files to load at `source`, a file or a folder with subfolders, and those that are ignored.

    Hidden files and `*.tmp`, which may still be written, are in neither; the collector's dead letters are.

    Args:
        source: A file or a folder.
        layout: Layout of its event files; without one, each file is recognised by itself.

    Raises:
        DataError: Nothing is there, a file named alone is of no known kind, or an event file does not have the layout.
        SettingError: The layout is not known.
    """
    layouts.check_name(layout)
    if source.is_file():
        file = _paired_alone(_recognise(source, source.name, layout))
        if isinstance(file, Ignored) and not _is_empty(source):
            raise DataError(f"{source}: the file {file.reason}.", _HOW_FILES_ARE_KNOWN)
        return ((), (file,)) if isinstance(file, Ignored) else ((file,), ())
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder.", "Check the path.")
    recognised = _pair_orders(
        _recognise(path, path.relative_to(source).as_posix(), layout) for path in sorted(_visible(source))
    )
    files = _pair_names([file for file in recognised if isinstance(file, LandingFile)])
    return files, tuple(file for file in recognised if isinstance(file, Ignored))


def _visible(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") and part != _DEAD_LETTER for part in parts)
        if path.is_file() and not hidden and path.suffix != ".tmp":
            yield path


def _recognise(path: Path, name: str, layout: str | None = None) -> LandingFile | Ignored:
    if _DEAD_LETTER in path.parts:
        if path.suffix == ".ndjson":
            return LandingFile(path, name, "dead_letters", "ndjson")
        return Ignored(path, name, "is no file of the collector's dead letters")
    known = path.name.lower().removesuffix(_PACKED)
    ending = next((ending for ending in _FORMATS if known.endswith(ending)), None)
    if known.endswith(_HEADERLESS):
        return _recognise_headerless(path, name, layout)
    if ending is None or (path.name.lower().endswith(_PACKED) and ending == ".parquet"):
        return Ignored(path, name, "has an ending that is not known")
    stem, file_format = known.removesuffix(ending), _FORMATS[ending]
    if file_format != "ndjson" and _is_empty(path):  # NDJSON without a line is an hour without shoppers
        return Ignored(path, name, "is empty")
    kind: Kind = "catalogue" if stem == "products" else "events"
    if file_format == "csv":
        kind = _COVEO.get(stem, kind)
    if ending == ".json" and _begins_an_array(path):
        file_format = "json"
    return _with_layout(LandingFile(path, name, kind, file_format), stem, layout)


def _recognise_headerless(path: Path, name: str, layout: str | None) -> LandingFile | Ignored:
    """Recognise a file whose ending says nothing: it is of a layout or ignored."""
    stem = path.name.lower().removesuffix(_PACKED).removesuffix(_HEADERLESS)
    if _is_empty(path):
        return Ignored(path, name, "is empty")
    file = _with_layout(LandingFile(path, name, "events", "csv"), stem, layout)
    if isinstance(file, LandingFile) and not file.layout:
        return Ignored(path, name, "has an ending that is not known")
    return file


def _with_layout(file: LandingFile, stem: str, layout: str | None) -> LandingFile | Ignored:
    """Recognise the known export that a file of events or products is of, if any."""
    if file.kind not in {"events", "catalogue"} or file.is_collected:
        return file
    shape = _shape(file, stem)
    export = layouts.recognise(shape)
    if isinstance(export, Unwanted):
        return Ignored(file.path, file.name, export.reason)
    if layout and file.kind == "events" and not (export and export.kind == "catalogue"):
        export = layouts.named(shape, layout)
    if not export or (file.kind == "catalogue" and export.kind != "catalogue"):
        return file
    has_header = not export.positions or shape.begins_with_names
    return replace(file, kind=export.kind, layout=export, has_header=has_header)


def _shape(file: LandingFile, stem: str) -> layouts.Shape:
    """Return the beginning of a file; an empty one of a file that cannot be read, which is left to its reader."""
    shape = layouts.Shape(file.name, stem, file.path.parent.name.lower(), file.is_json)
    try:
        if file.is_json:
            return replace(shape, objects=tuple(_first_objects(file)))
        return replace(shape, names=tuple(_parquet_columns(file) if file.format == "parquet" else _first_row(file)))
    except DataError:
        return shape


def _first_objects(file: LandingFile) -> Iterator[dict[str, Any]]:
    with _unpacking(file), _open_text(file.path) as stream:
        values = _elements(stream.read(_BLOCK)) if file.format == "json" else _json_values(stream)
        for value in islice(values, _FIRST_OBJECTS):
            if isinstance(value, dict):
                yield value


def _json_values(stream: IO[str]) -> Iterator[Any]:
    for line in stream:
        with suppress(ValueError, RecursionError):
            yield json.loads(line)


def _elements(text: str) -> Iterator[Any]:
    """Yield the elements of an array that are whole in the beginning of its text."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,\[]*")
    end = 0
    with suppress(ValueError, RecursionError):
        while match := between.match(text, end):
            value, end = decoder.raw_decode(text, match.end())
            yield value


def _is_empty(path: Path) -> bool:
    """Whether a file holds nothing but blanks. One that cannot be read is left to its reader."""
    try:
        with _open_binary(path) as stream:
            while block := stream.read(_BLOCK):
                if block.strip():
                    return False
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _begins_an_array(path: Path) -> bool:
    try:
        with _open_text(path) as stream:
            return next((line for line in stream if line.strip()), "").lstrip().startswith("[")
    except (OSError, EOFError, zlib.error):
        return False


def _pair_names(files: list[LandingFile]) -> tuple[LandingFile, ...]:
    """Put each file of product names to the catalogue in its folder; without one it stays a file of its own."""
    catalogues = {file.path.parent for file in files if file.kind == "coveo_catalogue"}
    names = {file.path.parent: file for file in files if file.kind == "coveo_names"}
    return tuple(
        replace(file, names=names.get(file.path.parent)) if file.kind == "coveo_catalogue" else file
        for file in files
        if not (file.kind == "coveo_names" and file.path.parent in catalogues)
    )


def _pair_orders(found: Iterable[LandingFile | Ignored]) -> list[LandingFile | Ignored]:
    """Put the file that others of its folder need to each of them. Without each other, they are ignored."""
    found = list(found)
    companions = {file.path.parent: file for file in found if isinstance(file, LandingFile) and file.kind == "orders"}
    paired = [_paired(file, companions.get(file.path.parent)) for file in found]
    needed = {file.names.path for file in paired if isinstance(file, LandingFile) and file.names}
    return [_used(file) for file in paired if file.path not in needed]


def _used(file: LandingFile | Ignored) -> LandingFile | Ignored:
    """Ignore a file that only others need, if none of them does."""
    if isinstance(file, LandingFile) and file.kind == "orders":
        return Ignored(file.path, file.name, "holds orders, and no file with their lines is beside it")
    return file


def _paired(file: LandingFile | Ignored, companion: LandingFile | None) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout:
        return file
    if file.layout.companion:
        missing = f"holds lines of orders, and no file {file.layout.companion!r} with the orders is beside it"
        return replace(file, names=companion) if companion else Ignored(file.path, file.name, missing)
    return file


def _paired_alone(file: LandingFile | Ignored) -> LandingFile | Ignored:
    if isinstance(file, Ignored) or not file.layout or not file.layout.companion:
        return _used(file)
    beside = (_recognise(path, path.name) for path in sorted(file.path.parent.glob(f"{file.layout.companion}.*")))
    return _paired(file, next((f for f in beside if isinstance(f, LandingFile) and f.kind == "orders"), None))


def digest(file: LandingFile) -> str:
    """SHA-256 of a file's bytes, and of the file's that goes with it, in hex.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with file.path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256")
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read ({error}).", "Check its permissions.") from error
    if file.names:
        content.update(bytes.fromhex(digest(file.names)))
    return content.hexdigest()


def count_lines(file: LandingFile) -> int:
    """Number of lines of text in a file, compressed or not.

    Raises:
        DataError: It is compressed and damaged.
    """
    lines, last = 0, b"\n"
    with _unpacking(file), _open_binary(file.path) as stream:
        while block := stream.read(_BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def column_names(file: LandingFile) -> list[str]:
    """Names of the columns of a CSV or Parquet file, in its order.

    Raises:
        DataError: No header, no Parquet, or a column twice.
    """
    names = _parquet_columns(file) if file.format == "parquet" else _csv_header(file)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{file.header_place}: the column {repeated[0]!r} is there twice.", "Rename one of them.")
    return names


def _parquet_columns(file: LandingFile) -> list[str]:
    try:
        return list(pq.read_schema(file.path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.name}: not a Parquet file ({error}).", "Is the file complete? Write it again."
        ) from error


def column_types(file: LandingFile) -> tuple[pa.DataType, ...]:
    """Return the types of a Parquet file's columns, in its order; none for text files."""
    return tuple(pq.read_schema(file.path).types) if file.format == "parquet" else ()


def _csv_header(file: LandingFile) -> list[str]:
    if file.layout and not file.has_header:
        return list(file.layout.positions)
    header = next(_csv_rows(file), [])
    if not header:
        raise DataError(f"{file.header_place}: there is no header line.", "The first line must name the columns.")
    return header


def _first_row(file: LandingFile) -> list[str]:
    """Return the first row of a CSV file that is not blank: a header, or else a record."""
    return next((row for row in _csv_rows(file) if row), [])


def _csv_rows(file: LandingFile) -> Iterator[list[str]]:
    try:
        with _unpacking(file), _open_text(file.path) as stream:
            yield from csv.reader(stream, strict=True, delimiter=file.delimiter)
    except csv.Error as error:
        raise DataError(
            f"{file.header_place}: the header cannot be read ({error}).", "Use commas and double quotes."
        ) from error


def line_shifts(file: LandingFile) -> Iterator[tuple[int, int]]:
    """Where the lines of a CSV file run ahead of its records: quoted line breaks and blank lines do that.

    Yields:
        (record, shift): from this record on (0 is the first), line = record + `first_line` + shift.
    """
    known = 0
    with _open_text(file.path) as stream:
        record = -1 if file.has_header else 0
        for start, row, _end in _records(stream, file.delimiter):
            if not row:
                continue  # DuckDB skips blank lines too
            if record >= 0 and (shift := start - record - file.first_line) != known:
                known = shift
                yield record, shift
            record += 1


@dataclass(frozen=True)
class Damage:
    """A record of a text file that cannot be read.

    Attributes:
        line: Where it starts.
        lines: How many it takes.
        reason: `not_utf8`, `too_large`, `bad_character` or `wrong_field_count`.
        message: What is wrong with it.
        hint: What to do about it.
        text: What can be shown of it.
    """

    line: int
    lines: int
    reason: str
    message: str
    hint: str
    text: str


def find_damage(file: LandingFile, width: int) -> DataError | None:
    """What is wrong with the first record that cannot be read; None where all are well.

    Args:
        file: A text file.
        width: Fields that each record of a CSV file must have.
    """
    try:
        for start, row, end in _records_of(file):
            if damage := _damage(file, width, start, row, end):
                return DataError(f"{file.place(damage.line)}: {damage.message}.", damage.hint)
    except _BrokenRecord as error:
        return DataError(f"{file.place(error.line)}: a quote is not closed.", "Write a quote inside a text twice.")
    return None


def mended(file: LandingFile, width: int, copy: Path) -> list[Damage]:
    """Copy a text file, uncompressed, with blank lines in place of what cannot be read; returns that.

    Raises:
        DataError: A quote is not closed: where the next record starts is not known.
    """
    damages: list[Damage] = []

    def is_damaged(start: int, row: list[str], end: int) -> bool:
        damage = _damage(file, width, start, row, end)
        damages.extend([damage] if damage else [])
        return damage is not None

    with copy.open("w", encoding="utf-8", newline="") as stream:
        _copy_records(file, stream, is_damaged)
    return damages


def without(file: LandingFile, lines: set[int], copy: Path) -> None:
    """Copy a file in its own format without the records that start on these lines.

    In a text file blank lines stand in their place, so that the others keep theirs; rows of Parquet and of an array
    move up.
    """
    if file.format == "parquet":
        table = pq.read_table(file.path)
        kept = [row for row in range(table.num_rows) if row + 1 not in lines]
        pq.write_table(table.take(kept), copy, compression="zstd")
        return
    opened: IO[bytes] = copy.open("wb")
    if file.is_packed:
        opened = gzip.GzipFile("", "wb", fileobj=opened, mtime=0)  # type: ignore[assignment]
    with opened, io.TextIOWrapper(opened, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        if file.format == "json":
            _copy_elements(file, stream, lines)
            return
        _copy_records(file, stream, lambda start, _row, _end: start in lines)


def _copy_elements(file: LandingFile, into: IO[str], dropped: set[int]) -> None:
    with _unpacking(file), _open_text(file.path) as stream:
        elements = json.load(stream)
    json.dump([element for row, element in enumerate(elements, 1) if row not in dropped], into, ensure_ascii=False)


def _copy_records(file: LandingFile, into: IO[str], is_dropped: Callable[[int, list[str], int], bool]) -> None:
    writer = csv.writer(into, lineterminator="\n", delimiter=file.delimiter) if file.format == "csv" else None
    try:
        for start, row, end in _records_of(file):
            if not row or is_dropped(start, row, end):
                into.write("\n" * (end - start + 1))
            elif writer:
                writer.writerow(row)
            else:
                into.write(row[0] + "\n")
    except _BrokenRecord as error:
        raise DataError(
            f"{file.place(error.line)}: a quote is not closed.", "Write a quote inside a text twice."
        ) from error


def _records_of(file: LandingFile) -> Iterator[tuple[int, list[str], int]]:
    """Each record with its first and its last line; a line of NDJSON is a record of one field."""
    with _unpacking(file), _open_text(file.path) as stream:
        if file.format == "csv":
            yield from _records(stream, file.delimiter)
        else:
            for number, line in enumerate(stream, 1):
                yield number, [line.rstrip("\r\n")], number


def _damage(file: LandingFile, width: int, start: int, row: list[str], end: int) -> Damage | None:
    text = "".join(row) if file.format == "ndjson" else json.dumps(row)

    def damage(reason: str, message: str, hint: str) -> Damage:
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Damage(start, end - start + 1, reason, message, hint, shown)

    if any("\udc80" <= character <= "\udcff" for field in row for character in field):
        return damage("not_utf8", "the text is not UTF-8", "Save the file as UTF-8.")
    if file.format == "ndjson" and len(text) > _MAX_LINE // 4 and len(text.encode()) > _MAX_LINE:
        return damage("too_large", f"the line has more than {_MAX_LINE} bytes", "Split it.")
    if file.format == "ndjson" and ("\x1f" in text or "\0" in text):
        return damage("bad_character", "the line holds a control character", "Write it as \\u00….")
    if file.format == "csv" and row and len(row) != width:
        message = f"{len(row)} fields, but {'the header names' if file.has_header else 'the layout has'} {width}"
        return damage("wrong_field_count", message, "Put a text with commas in it in double quotes.")
    return None


@contextmanager
def _unpacking(file: LandingFile) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name}: cannot be unpacked ({error}).", "Fetch it again.") from error


class _BrokenRecord(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _records(stream: IO[str], delimiter: str) -> Iterator[tuple[int, list[str], int]]:
    """Each record of a CSV file with the lines it starts and ends on."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(stream, strict=True, delimiter=delimiter)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _BrokenRecord(start) from error
        yield start, row, reader.line_num


def _open_binary(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(_PACKED) else path.open("rb")  # type: ignore[return-value]


def _open_text(path: Path) -> IO[str]:
    """With undecodable bytes kept as surrogates, so that a reader can say on which line they are."""
    if path.name.lower().endswith(_PACKED):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
