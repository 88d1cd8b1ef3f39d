"""Headers, lines and records of landing files, damaged records, and copies without some records."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from boat.errors import DataError
from boat.landing.files import LandingFile
from boat.landing.streams import BLOCK, open_binary, open_text

_MAX_LINE = 2_000_000  # DuckDB takes no longer ones


def count_lines(file: LandingFile) -> int:
    """Number of lines of text in a file, compressed or not.

    Raises:
        DataError: It is compressed and damaged.
    """
    lines, last = 0, b"\n"
    with naming_broken_gzip(file), open_binary(file.path) as stream:
        while block := stream.read(BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def column_names(file: LandingFile) -> list[str]:
    """Names of the columns of a CSV or Parquet file, in its order.

    Raises:
        DataError: No header, no Parquet, or a column twice.
    """
    names = parquet_columns(file) if file.format == "parquet" else _csv_header(file)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{file.header_position}: the column {repeated[0]!r} is there twice.", "Rename one of them.")
    return names


def parquet_columns(file: LandingFile) -> list[str]:
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
        raise DataError(f"{file.header_position}: there is no header line.", "The first line must name the columns.")
    return header


def first_row(file: LandingFile) -> list[str]:
    """Return the first row of a CSV file that is not blank: a header, or else a record."""
    return next((row for row in _csv_rows(file) if row), [])


def _csv_rows(file: LandingFile) -> Iterator[list[str]]:
    try:
        with naming_broken_gzip(file), open_text(file.path) as stream:
            yield from csv.reader(stream, strict=True, delimiter=file.delimiter)
    except csv.Error as error:
        raise DataError(
            f"{file.header_position}: the header cannot be read ({error}).", "Use commas and double quotes."
        ) from error


def line_shifts(file: LandingFile) -> Iterator[tuple[int, int]]:
    """Where the lines of a CSV file run ahead of its records: quoted line breaks and blank lines do that.

    Yields:
        (record, shift): from this record on (0 is the first), line = record + `first_line` + shift.
    """
    known = 0
    with open_text(file.path) as stream:
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
                return DataError(f"{file.position(damage.line)}: {damage.message}.", damage.hint)
    except _BrokenRecord as error:
        return DataError(f"{file.position(error.line)}: a quote is not closed.", "Write a quote inside a text twice.")
    return None


def repaired_copy(file: LandingFile, width: int, copy: Path) -> list[Damage]:
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


def copy_without(file: LandingFile, lines: set[int], copy: Path) -> None:
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
    if file.is_compressed:
        opened = gzip.GzipFile("", "wb", fileobj=opened, mtime=0)  # type: ignore[assignment]
    with opened, io.TextIOWrapper(opened, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        if file.format == "json":
            _copy_elements(file, stream, lines)
            return
        _copy_records(file, stream, lambda start, _row, _end: start in lines)


def _copy_elements(file: LandingFile, into: IO[str], dropped: set[int]) -> None:
    with naming_broken_gzip(file), open_text(file.path) as stream:
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
            f"{file.position(error.line)}: a quote is not closed.", "Write a quote inside a text twice."
        ) from error


def _records_of(file: LandingFile) -> Iterator[tuple[int, list[str], int]]:
    """Each record with its first and its last line; a line of NDJSON is a record of one field."""
    with naming_broken_gzip(file), open_text(file.path) as stream:
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
def naming_broken_gzip(file: LandingFile) -> Iterator[None]:
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
