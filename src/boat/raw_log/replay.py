"""Rebuild the raw log from the landing files in separate tables, compare it with the live one, and replace differences.

Events are compared by day. Products and dead letters have no day and are compared by file. Only files of the ledger are
read, in the order of their loads, so that the first of two events with the same id is the same one again. Files that
were never loaded are left to `ingestion`.

`replay` runs all steps. A flow that distributes the days calls the steps: `rebuild`, `compare_day`, `compare_files`,
`refuse_to_lose`, `replace_day`, `replace_files`, `clear`. It locks the warehouse with `exclusive` for the whole time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from boat.errors import DataError, SettingError
from boat.events import COLUMNS
from boat.landing import BadRows
from boat.landing.bucket import fetched, is_bucket
from boat.landing.discovery import discover
from boat.landing.files import LandingFile, digest
from boat.raw_log import tables
from boat.raw_log.loading import load_files
from boat.warehouse import Transaction, Warehouse

SCHEMA = "raw_replay"
"""Schema of the rebuilt raw log; dropped at the end."""

_LIVE = tables.SCHEMA
_CONTENT = ", ".join([*(column.name for column in COLUMNS), "schema_version", "extra"])
_DAY = "cast(event_time as date)"
_OF_FILES = {
    "products": "shop, product_id, product_name, category, price, extra, source_line",
    "dead_letters": "source_line, reason, field, message, payload",
}
_NO_FILE = ""
_BATCH = 500
_EXAMPLES = 3
_AS_LOADED = BadRows("quarantine", max_share=1)  # these files were accepted before


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Number of rows of the raw log, live and rebuilt.

    Attributes:
        live: Live rows.
        rebuilt: Rows rebuilt from the landing files.
        only_live: Live rows that are not rebuilt with the same content.
        only_rebuilt: Rebuilt rows that are not live with the same content.
        replaced: Whether the rebuilt rows have replaced the live ones.
    """

    live: int
    rebuilt: int
    only_live: int
    only_rebuilt: int
    replaced: bool = False

    @property
    def differs(self) -> bool:
        """Return whether live and rebuilt rows differ."""
        return self.live != self.rebuilt or self.only_live + self.only_rebuilt > 0


@dataclass(frozen=True, kw_only=True)
class Day(Difference):
    """Events of one day.

    Attributes:
        day: Day of the events, UTC.
        examples: Ids of some events that are only live or only rebuilt.
    """

    day: date
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileRows(Difference):
    """Rows of a table from one file.

    Attributes:
        table: `products` or `dead_letters`.
        file: Name of the file; empty for rows without a file in the ledger.
        digest: Digest of the file in the ledger.
    """

    table: str
    file: str
    digest: str


@dataclass(frozen=True)
class Rebuilt:
    """The rebuilt raw log.

    Attributes:
        files: Number of files that were read.
        lost: Loaded files that are no longer in the landing folder; their rows cannot be rebuilt.
        days: Days of the range with an event, live or rebuilt.
    """

    files: int
    lost: tuple[str, ...]
    days: tuple[date, ...]


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    Attributes:
        rebuilt: The rebuilt raw log.
        days: Every day with an event.
        tables: Every file with products or dead letters.
    """

    rebuilt: Rebuilt
    days: tuple[Day, ...]
    tables: tuple[FileRows, ...]

    @property
    def differing(self) -> tuple[Difference, ...]:
        """Return the days and files that differ."""
        return tuple(part for part in (*self.days, *self.tables) if part.differs)


def replay(warehouse: Warehouse, source: Path | str, first: date, last: date, *, repair: bool = False) -> Replay:
    """Rebuild the raw log from the landing files, and compare it with the live one.

    Args:
        warehouse: Where the raw log is.
        source: The landing folder, or `s3://BUCKET/PREFIX`, all of which is fetched.
        first: First day, UTC.
        last: Last day, inclusive.
        repair: Replace live rows by rebuilt ones, on days and in files that differ. A second run changes nothing.
            Rebuild the tables of the warehouse afterwards.

    Raises:
        SettingError: The last day is before the first one.
        DataError: Days to replace contain events of missing files, or events that are on other days in the files.
    """
    with warehouse.exclusive():
        try:
            rebuilt = rebuild(warehouse, source, first, last)
            days = tuple(compare_day(warehouse, day) for day in rebuilt.days)
            tables = compare_files(warehouse)
            if repair:
                refuse_to_lose(warehouse, days)
                days = tuple(replace_day(warehouse, day) for day in days)
                tables = replace_files(warehouse, tables)
            return Replay(rebuilt, days, tables)
        finally:
            clear(warehouse)


def rebuild(warehouse: Warehouse, source: Path | str, first: date, last: date) -> Rebuilt:
    """Load the files of the ledger into `SCHEMA`.

    Raises:
        SettingError: The last day is before the first one.
    """
    if last < first:
        raise SettingError(f"The last day {last} is before the first day {first}.", "Swap them.")
    if isinstance(source, str) and is_bucket(source):
        with fetched(source, lambda _name, _at: True) as folder:
            return rebuild(warehouse, folder, first, last)
    clear(warehouse)  # tables of a replay that was stopped
    with warehouse.transaction() as transaction:
        tables.ensure(transaction)
        files, lost = _loaded_files(transaction, Path(source))
    load_files(warehouse, files, _AS_LOADED, SCHEMA)
    with warehouse.transaction() as transaction:
        days_of_both = " union ".join(
            f"select {_DAY} as day from {schema}.events where {_DAY} between date '{first}' and date '{last}'"
            for schema in (_LIVE, SCHEMA)
        )
        days = transaction.query(f"select day from ({days_of_both}) as days order by day")
    return Rebuilt(len(files), lost, tuple(days.column(0).to_pylist()))


def clear(warehouse: Warehouse) -> None:
    """Drop the rebuilt raw log."""
    with warehouse.transaction() as transaction:
        transaction.execute(f"drop schema if exists {SCHEMA} cascade")


def compare_day(warehouse: Warehouse, day: date) -> Day:
    """Compare live and rebuilt events of a day."""
    with warehouse.transaction() as transaction:
        return _day(transaction, day)


def replace_day(warehouse: Warehouse, day: Day) -> Day:
    """Replace the live events of a day by the rebuilt ones, in one transaction, if they differ."""
    if not day.differs:
        return day
    with warehouse.transaction() as transaction:
        transaction.lock()
        current = _day(transaction, day.day)
        _refuse_gone(transaction, [day.day])
        transaction.execute(f"delete from {_LIVE}.events where {_on(day.day)}")
        # An event that was on another day is only on this day now.
        transaction.execute(
            f"""delete from {_LIVE}.events where (shop, event_id) in (
                select shop, event_id from {SCHEMA}.events where {_on(day.day)})"""
        )
        # With the file names that the live ledger has for the same bytes.
        transaction.execute(
            f"""insert into {_LIVE}.events ({_CONTENT}, load_id, source_file, source_line)
            select {_of("event", _CONTENT)}, ledger.load_id, ledger.source_file, event.source_line
            from {SCHEMA}.events as event
            join {SCHEMA}.loads as again on again.load_id = event.load_id
            join {_LIVE}.loads as ledger on ledger.digest = again.digest
            where {_on(day.day)}"""
        )
    return replace(current, replaced=True)


def compare_files(warehouse: Warehouse) -> tuple[FileRows, ...]:
    """Compare live and rebuilt products and dead letters of each existing file."""
    with warehouse.transaction() as transaction:
        names = {
            row["digest"]: row["source_file"]
            for row in transaction.query(f"select digest, source_file from {SCHEMA}.loads").to_pylist()
        }
        return tuple(
            FileRows(table=table, file=names.get(row["digest"], _NO_FILE), **row)
            for table, content in _OF_FILES.items()
            for row in _differences(transaction, "digest", *_rows_of_files(table, content))
        )


def replace_files(warehouse: Warehouse, files: Iterable[FileRows]) -> tuple[FileRows, ...]:
    """Replace live products and dead letters by the rebuilt ones, for files that differ."""
    files = tuple(files)
    with warehouse.transaction() as transaction:
        transaction.lock()
        for table in _OF_FILES:
            digests = [file.digest for file in files if file.differs and file.table == table]
            for start in range(0, len(digests), _BATCH):
                _replace_rows(transaction, table, digests[start : start + _BATCH])
    return tuple(replace(file, replaced=file.differs) for file in files)


def refuse_to_lose(warehouse: Warehouse, days: Iterable[Day]) -> None:
    """Check that the files contain every event that would be replaced.

    Raises:
        DataError: Days that differ contain events of missing files, or events that are on other days in the files.
    """
    differing = [day.day for day in days if day.differs]
    if differing:
        with warehouse.transaction() as transaction:
            _refuse_gone(transaction, differing)
            _refuse_moved(transaction, differing)


def _loaded_files(transaction: Transaction, source: Path) -> tuple[tuple[LandingFile, ...], tuple[str, ...]]:
    """Return the files of the ledger in the order of their loads, and the names of missing files."""
    ledger = transaction.query(
        f"""select digest, source_file from {_LIVE}.loads where kind <> '{tables.ERASED}'
        order by loaded_at, source_file"""
    ).to_pylist()
    files = {digest(file): file for file in discover(source)[0]}
    loaded = tuple(files[row["digest"]] for row in ledger if row["digest"] in files)
    return loaded, tuple(row["source_file"] for row in ledger if row["digest"] not in files)


def _day(transaction: Transaction, day: date) -> Day:
    live, rebuilt = (
        f"(select {_DAY} as day, {_CONTENT} from {schema}.events where {_on(day)})" for schema in (_LIVE, SCHEMA)
    )
    counted = _differences(transaction, "day", live, rebuilt)
    result = Day(**counted[0]) if counted else Day(day=day, live=0, rebuilt=0, only_live=0, only_rebuilt=0)
    if not result.only_live + result.only_rebuilt:
        return result
    alone = f"({live} except {rebuilt}) union all ({rebuilt} except {live})"
    ids = transaction.query(f"select distinct event_id from ({alone}) as alone order by 1 limit {_EXAMPLES}")
    return replace(result, examples=tuple(ids.column(0).to_pylist()))


def _differences(transaction: Transaction, key: str, live: str, rebuilt: str) -> list[dict[str, Any]]:
    """Count the rows of two queries for each value of a key: in each query, and in only one of them."""
    parts = (live, rebuilt, f"({live} except {rebuilt})", f"({rebuilt} except {live})")
    names = ("live", "rebuilt", "only_live", "only_rebuilt")
    counts = " union all ".join(
        f"select {key}, {', '.join(f'{int(name == part_name)} as {name}' for name in names)} from {part} as part"
        for part_name, part in zip(names, parts, strict=True)
    )
    sums = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in names)
    counted = transaction.query(f"select {key}, {sums} from ({counts}) as counted group by {key} order by {key}")
    rows: list[dict[str, Any]] = counted.to_pylist()
    return rows


def _rows_of_files(table: str, content: str) -> tuple[str, str]:
    """Return the query for live rows of existing files, or without a file, and the query for rebuilt rows."""
    selected = _of("row_of", content)
    live = f"""(select coalesce(ledger.digest, '{_NO_FILE}') as digest, {selected}
        from {_LIVE}.{table} as row_of
        left join {_LIVE}.loads as ledger
            on ledger.load_id = row_of.load_id and ledger.kind <> '{tables.ERASED}'
        where ledger.digest is null or ledger.digest in (select digest from {SCHEMA}.loads))"""
    rebuilt = f"""(select again.digest, {selected}
        from {SCHEMA}.{table} as row_of join {SCHEMA}.loads as again on again.load_id = row_of.load_id)"""
    return live, rebuilt


def _replace_rows(transaction: Transaction, table: str, digests: Sequence[str]) -> None:
    content = _OF_FILES[table]
    marks = ", ".join("?" * len(digests))
    transaction.execute(
        f"""delete from {_LIVE}.{table} where load_id in (
            select load_id from {_LIVE}.loads where digest in ({marks}) and kind <> '{tables.ERASED}')""",
        digests,
    )
    if _NO_FILE in digests:
        transaction.execute(f"delete from {_LIVE}.{table} where load_id not in (select load_id from {_LIVE}.loads)")
    received, received_at = "", ""
    if table == "dead_letters":
        # A row of an event file was received when it was loaded; dead letters of the collector have the time.
        received = ", received_at"
        received_at = ", case when ledger.kind = 'dead_letters' then row_of.received_at else ledger.loaded_at end"
    # Names of a catalogue come from a second file, which has its own name.
    transaction.execute(
        f"""insert into {_LIVE}.{table} ({content}, load_id, source_file{received})
        select {_of("row_of", content)}, ledger.load_id,
            case when row_of.source_file = again.source_file then ledger.source_file else row_of.source_file end
            {received_at}
        from {SCHEMA}.{table} as row_of
        join {SCHEMA}.loads as again on again.load_id = row_of.load_id
        join {_LIVE}.loads as ledger on ledger.digest = again.digest
        where again.digest in ({marks})""",
        digests,
    )


def _refuse_gone(transaction: Transaction, days: Sequence[date]) -> None:
    missing = transaction.query(
        f"""select distinct live.source_file as name from {_LIVE}.events as live
        join {_LIVE}.loads as ledger on ledger.load_id = live.load_id and ledger.kind <> '{tables.ERASED}'
        left join {SCHEMA}.loads as again on again.digest = ledger.digest
        where cast(live.event_time as date) in ({_dates(days)})
            and again.digest is null order by 1"""
    )["name"].to_pylist()
    if missing:
        raise DataError(
            f"Days that differ contain events of missing files: {_listed(missing)}.",
            "Restore the files, or exclude these days.",
        )


def _refuse_moved(transaction: Transaction, days: Sequence[date]) -> None:
    moved = transaction.query(
        f"""select distinct cast(again.event_time as date) as day from {SCHEMA}.events as again
        join {_LIVE}.events as live on live.shop = again.shop and live.event_id = again.event_id
        where (case when cast(live.event_time as date) in ({_dates(days)}) then 1 else 0 end)
            <> (case when cast(again.event_time as date) in ({_dates(days)}) then 1 else 0 end) order by 1"""
    )["day"].to_pylist()
    if moved:
        raise DataError(
            f"Events of days that differ are on other days in the files: {_listed([str(day) for day in moved])}.",
            "Choose a range with all of these days.",
        )


def _on(day: date) -> str:
    """Return SQL: the event is on this day. A range lets a warehouse skip blocks by their bounds."""
    return f"event_time >= timestamp '{day}' and event_time < timestamp '{day + timedelta(days=1)}'"


def _dates(days: Iterable[date]) -> str:
    return ", ".join(f"date '{day}'" for day in days)


def _of(table: str, names: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names.split(", "))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
