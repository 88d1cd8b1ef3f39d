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

_MAX_LINE = 2_000_000  # limit of DuckDB, in bytes


def count_lines(file: LandingFile) -> int:
    """Count the lines of a text file, compressed or not.

    Raises:
        DataError: The compressed file is damaged.
    """
    lines, last = 0, b"\n"
    with naming_broken_gzip(file), open_binary(file.path) as stream:
        while block := stream.read(BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def column_names(file: LandingFile) -> list[str]:
    """Return the column names of a CSV or Parquet file, in order.

    Raises:
        DataError: The file has no header, is not Parquet, or has a column twice.
    """
    names = parquet_columns(file) if file.format == "parquet" else _csv_header(file)
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{file.header_position}: the column {repeated[0]!r} appears twice.", "Rename one of them.")
    return names


def parquet_columns(file: LandingFile) -> list[str]:
    """Return the column names of a Parquet file.

    Raises:
        DataError: The file is not Parquet.
    """
    try:
        return list(pq.read_schema(file.path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.name}: this is not a Parquet file ({error}).", "Check that the file is complete, or write it again."
        ) from error


def column_types(file: LandingFile) -> tuple[pa.DataType, ...]:
    """Return the column types of a Parquet file, in order; empty for text files."""
    return tuple(pq.read_schema(file.path).types) if file.format == "parquet" else ()


def _csv_header(file: LandingFile) -> list[str]:
    if file.layout and not file.has_header:
        return list(file.layout.positions)
    header = next(_csv_rows(file), [])
    if not header:
        raise DataError(
            f"{file.header_position}: the header line is missing.", "Write the column names into the first line."
        )
    return header


def first_row(file: LandingFile) -> list[str]:
    """Return the first row of a CSV file that is not blank: the header, or a record."""
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
    """Yield where lines of a CSV file run ahead of its records, because of quoted line breaks and blank lines.

    Yields:
        (record, shift): From this record (0 is the first), line = record + `first_line` + shift.
    """
    current = 0
    with open_text(file.path) as stream:
        record = -1 if file.has_header else 0
        for start, row, _end in _records(stream, file.delimiter):
            if not row:
                continue  # DuckDB skips blank lines too
            if record >= 0 and (shift := start - record - file.first_line) != current:
                current = shift
                yield record, shift
            record += 1


@dataclass(frozen=True)
class Damage:
    """A record of a text file that cannot be read.

    Attributes:
        line: Its first line.
        lines: Number of its lines.
        reason: `not_utf8`, `too_large`, `bad_character` or `wrong_field_count`.
        message: The problem.
        hint: The next step.
        text: Its text, as far as it can be printed.
    """

    line: int
    lines: int
    reason: str
    message: str
    hint: str
    text: str


def find_damage(file: LandingFile, width: int) -> DataError | None:
    """Return an error about the first record that cannot be read; `None` if every record can be read.

    Args:
        file: A text file.
        width: Number of fields of each record of a CSV file.
    """
    try:
        for start, row, end in _records_of(file):
            if damage := _damage(file, width, start, row, end):
                return DataError(f"{file.position(damage.line)}: {damage.message}.", damage.hint)
    except _BrokenRecord as error:
        return DataError(
            f"{file.position(error.line)}: a quote is not closed.", "Close it. Inside a text, write a quote twice."
        )
    return None


def repaired_copy(file: LandingFile, width: int, copy: Path) -> list[Damage]:
    """Copy a text file, uncompressed, with blank lines for damaged records; return the damaged records.

    Raises:
        DataError: A quote is not closed, so that the start of the next record is unknown.
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
    """Copy a file in its format without the records that start on these lines.

    In a text file they become blank lines, so that other records stay on their lines. Rows of Parquet and of an array
    move up.
    """
    if file.format == "parquet":
        table = pq.read_table(file.path)
        remaining = [row for row in range(table.num_rows) if row + 1 not in lines]
        pq.write_table(table.take(remaining), copy, compression="zstd")
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
            f"{file.position(error.line)}: a quote is not closed.", "Close it. Inside a text, write a quote twice."
        ) from error


def _records_of(file: LandingFile) -> Iterator[tuple[int, list[str], int]]:
    """Yield each record with its first and last line; a line of NDJSON is a record with one field."""
    with naming_broken_gzip(file), open_text(file.path) as stream:
        if file.format == "csv":
            yield from _records(stream, file.delimiter)
        else:
            for number, line in enumerate(stream, 1):
                yield number, [line.rstrip("\r\n")], number


def _damage(file: LandingFile, width: int, start: int, row: list[str], end: int) -> Damage | None:
    text = "".join(row) if file.format == "ndjson" else json.dumps(row)

    def damage(reason: str, message: str, hint: str) -> Damage:
        printable = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return Damage(start, end - start + 1, reason, message, hint, printable)

    if any("\udc80" <= character <= "\udcff" for field in row for character in field):
        return damage("not_utf8", "the text is not UTF-8", "Save the file as UTF-8.")
    if file.format == "ndjson" and len(text) > _MAX_LINE // 4 and len(text.encode()) > _MAX_LINE:
        return damage("too_large", f"the line has more than {_MAX_LINE} bytes", "Split it.")
    if file.format == "ndjson" and ("\x1f" in text or "\0" in text):
        return damage("bad_character", "the line contains a control character", "Write it as \\u00….")
    if file.format == "csv" and row and len(row) != width:
        message = f"{len(row)} fields, but {'the header names' if file.has_header else 'the layout has'} {width}"
        return damage("wrong_field_count", message, "Put texts that contain the delimiter in double quotes.")
    return None


@contextmanager
def naming_broken_gzip(file: LandingFile) -> Iterator[None]:
    """Raise a DataError that names the file if it cannot be decompressed."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name}: the file cannot be decompressed ({error}).", "Download it again.") from error


class _BrokenRecord(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


def _records(stream: IO[str], delimiter: str) -> Iterator[tuple[int, list[str], int]]:
    """Yield each record of a CSV file with its first and last line."""
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
