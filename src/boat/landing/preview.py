"""Preview of a load: how files are read, and which rows are bad. It writes nothing."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from boat.errors import DataError
from boat.events import DEFAULT_SHOP
from boat.landing import validation
from boat.landing.bucket import at_hand
from boat.landing.discovery import discover
from boat.landing.files import FileKind, Ignored, LandingFile
from boat.landing.rows import EVENT_FIELDS, LAYOUTS, PRODUCT_FIELDS
from boat.landing.staging import Reading, number, read_alone, unused_types
from boat.warehouse.duckdb import DuckDBTransaction

SAMPLE_ROWS = 3


@dataclass(frozen=True)
class Refusals:
    """Bad rows of a file with the same reason.

    Attributes:
        reason: A value of `boat.landing.Reason`.
        rows: Number of rows.
        example: File, line, column and problem of the first row.
    """

    reason: str
    rows: int
    example: str


@dataclass(frozen=True)
class FilePreview:
    """How a file would be loaded.

    Attributes:
        name: Path relative to the folder.
        kind: Kind of its rows.
        rows: Number of valid rows.
        read_from: Name in the file of each column of the target table.
        in_extra: Names in the file of fields that go to `extra`.
        notes: How ambiguous columns are read.
        sample: The first rows, without empty columns.
        types: Number of rows by event type, the most frequent first.
        first: Time of the earliest event, UTC; `None` without events.
        last: Time of the latest event, UTC.
        clients: Number of distinct client ids.
        sessions: Number of distinct session ids; other sessions are cut at gaps between events.
        products: Number of distinct product ids.
        refused: Bad rows by reason.
        unused: Number of rows by event type that is known and not used.
        error: Reason why the file cannot be loaded; empty if it can.
    """

    name: str
    kind: FileKind
    rows: int = 0
    read_from: tuple[tuple[str, str], ...] = ()
    in_extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sample: tuple[dict[str, Any], ...] = ()
    types: tuple[tuple[str, int], ...] = ()
    first: datetime | None = None
    last: datetime | None = None
    clients: int = 0
    sessions: int = 0
    products: int = 0
    refused: tuple[Refusals, ...] = ()
    unused: tuple[tuple[str, int], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Preview:
    """How files would be loaded, and which files are ignored."""

    files: tuple[FilePreview, ...]
    ignored: tuple[Ignored, ...]

    def to_text(self) -> str:
        """Return the preview as text, one paragraph per file."""
        paragraphs = ["\n".join(_paragraph(file)) for file in self.files]
        paragraphs += [f"{ignored.name}: the file {ignored.reason} and would not be loaded" for ignored in self.ignored]
        return "\n\n".join(paragraphs)


def preview(source: Path | str, layout: str | None = None) -> Preview:
    """Read a file, a folder or `s3://BUCKET/PREFIX` as `load` would, without a warehouse.

    Raises:
        DataError: The source does not exist, a single file has an unknown type, or a file does not have the layout.
        SettingError: The layout is unknown.
    """
    with at_hand(source) as path:
        files, ignored = discover(path, layout)
        return Preview(tuple(map(_preview, files)), ignored)


def _preview(file: LandingFile) -> FilePreview:
    try:
        with read_alone(file, _stage) as opened:
            return _events(opened) if LAYOUTS[file.kind].fields is EVENT_FIELDS else _others(opened)
    except DataError as error:
        return FilePreview(file.name, file.kind, error=str(error))


def _stage(opened: Reading) -> None:
    """Create the view or table `preview` of a file's rows."""
    if opened.file.kind == "dead_letters":
        opened.local.execute("create temp table preview as select line, null as flaw from landing_rows")
    else:
        opened.validate(
            "preview", validation.products if LAYOUTS[opened.file.kind].fields is PRODUCT_FIELDS else validation.events
        )


def _events(opened: Reading) -> FilePreview:
    local = opened.local
    (counts,) = local.query(
        """select count(*) as rows, min(event_time) as first, max(event_time) as last,
            count(distinct client_id) as clients, count(distinct session_id) as sessions,
            count(distinct product_id) as products
        from preview where flaw is null"""
    ).to_pylist()
    types = local.query(
        "select event_type as name, count(*) as n from preview where flaw is null group by all order by n desc, name"
    ).to_pylist()
    return FilePreview(
        opened.file.name,
        opened.file.kind,
        **counts,
        **_understood(opened),
        types=tuple((row["name"], row["n"]) for row in types),
        unused=unused_types(local, "preview"),
    )


def _others(opened: Reading) -> FilePreview:
    rows = number(opened.local, "select count(*) from preview where flaw is null")
    return FilePreview(opened.file.name, opened.file.kind, rows, **_understood(opened))


def _understood(opened: Reading) -> dict[str, Any]:
    local, columns = opened.local, opened.columns
    read = {names[0] for names in columns.sources.values()} | {"extra"}
    sample = local.query(
        f"select * exclude (line, flaw) from preview where flaw is null order by row limit {SAMPLE_ROWS}"
        if opened.file.kind != "dead_letters"
        else "select line from preview limit 0"
    ).to_pylist()
    hidden = {"row", "has_id", *(() if "event_id" in columns.sources else ("event_id",))}
    return {
        "read_from": tuple(
            (column, ", else ".join(names) if columns.is_json else names[0])
            for column, names in columns.sources.items()
        ),
        "in_extra": tuple(name for name in columns.names if name not in read),
        "notes": columns.notes(),
        "sample": tuple(
            {name: value for name, value in row.items() if value is not None and name not in hidden} for row in sample
        ),
        "refused": _refused(local, opened.file),
    }


def _refused(local: DuckDBTransaction, file: LandingFile) -> tuple[Refusals, ...]:
    reasons = local.query(
        """select reason, count(*) as n, min(source_line) as line, arg_min(field, source_line) as field,
            arg_min(message, source_line) as message
        from landing_failed group by reason order by n desc, reason"""
    ).to_pylist()
    return tuple(
        Refusals(
            row["reason"],
            row["n"],
            f"{file.position(row['line'])}: {row['field']} {row['message']}".replace(":  ", ": "),
        )
        for row in reasons
    )


def _paragraph(file: FilePreview) -> list[str]:
    if file.error:
        return [f"{file.name} ({file.kind}): cannot be loaded", f"  {file.error}"]
    lines = [f"{file.name} ({file.kind}): {_rows(file.rows)} can be loaded"]
    lines += [f"  {column:<15} from {name}" for column, name in file.read_from]
    lines += [f"  kept in extra   {', '.join(file.in_extra)}"] if file.in_extra else []
    lines += [f"  note: {note}" for note in file.notes]
    lines += ["  first rows:", *(f"    {_sampled(row)}" for row in file.sample)] if file.sample else []
    lines += [f"  by type: {_counted(file.types)}"] if file.types else []
    if file.first:
        lines.append(f"  from {file.first} to {file.last} UTC")
        lines.append(f"  {file.clients:,} clients, {file.sessions:,} session ids, {file.products:,} products")
    lines += [f"  not used: {_counted(file.unused)}"] if file.unused else []
    for refusal in file.refused:
        lines += [f"  would be refused: {_rows(refusal.rows)}, {refusal.reason}, such as", f"    {refusal.example}"]
    return lines


def _sampled(row: dict[str, Any]) -> str:
    """Return a row as text, without columns that every row has."""
    left_out = {"schema_version", *(("shop",) if row.get("shop") == DEFAULT_SHOP else ())}
    return ", ".join(f"{name} {value}" for name, value in row.items() if name not in left_out)


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def _counted(counts: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{name} {rows:,}" for name, rows in counts)
