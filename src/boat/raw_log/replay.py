"""Replay: the raw log rebuilt from the landing files beside the live one, compared, and put in its place.

Events, searches and clicks among them, are compared day by day; products and dead letters have no day of their own and
are compared file by file. Only files in the ledger are read, in the order in which they were loaded, so that the first
of two events with one id is the same again. What was never loaded is the ingestion's to load.

`replay` does it all. Its steps stand alone for a flow that shares out the days: `rebuild`, `compare_day`,
`compare_files`, `refuse_to_lose`, `swap_day`, `swap_files`, `clear`; the warehouse is kept `exclusive` meanwhile.
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
from boat.landing.files import LandingFile, digest, discover
from boat.raw_log import tables
from boat.raw_log.loading import load_files
from boat.warehouse import Transaction, Warehouse

SCHEMA = "raw_replay"
"""Where the raw log is rebuilt; dropped at the end."""

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
_AS_LOADED = BadRows("quarantine", max_share=1)  # what these files hold was accepted before


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Rows of the raw log, live and rebuilt.

    Attributes:
        live: Rows there are.
        rebuilt: Rows that the landing files give.
        only_live: Of the live ones, those that the landing files do not give, or not with this content.
        only_rebuilt: Of the rebuilt ones, those that are not there, or not with this content.
        swapped: Whether the rebuilt ones are there now.
    """

    live: int
    rebuilt: int
    only_live: int
    only_rebuilt: int
    swapped: bool = False

    @property
    def differs(self) -> bool:
        return self.live != self.rebuilt or self.only_live + self.only_rebuilt > 0


@dataclass(frozen=True, kw_only=True)
class Day(Difference):
    """The events of one day.

    Attributes:
        day: By the events' time, UTC.
        examples: Ids of a few that are on one side alone.
    """

    day: date
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileRows(Difference):
    """The rows that one file put into a table.

    Attributes:
        table: `products` or `dead_letters`.
        file: Name of the file; empty for rows that no file of the ledger gave.
        digest: Its digest in the ledger.
    """

    table: str
    file: str
    digest: str


@dataclass(frozen=True)
class Rebuilt:
    """The raw log that lies beside the live one.

    Attributes:
        files: Number of files that were read.
        lost: Loaded files that are no longer in the landing folder: what they held cannot be rebuilt.
        days: Those of the range that have any event, live or rebuilt.
    """

    files: int
    lost: tuple[str, ...]
    days: tuple[date, ...]


@dataclass(frozen=True)
class Replay:
    """What a replay found.

    Attributes:
        rebuilt: What it compared with.
        days: Each day that has any event.
        tables: Each file that has products or dead letters.
    """

    rebuilt: Rebuilt
    days: tuple[Day, ...]
    tables: tuple[FileRows, ...]

    @property
    def differing(self) -> tuple[Difference, ...]:
        return tuple(each for each in (*self.days, *self.tables) if each.differs)


def replay(warehouse: Warehouse, source: Path | str, first: date, last: date, *, swap: bool = False) -> Replay:
    """Rebuild the raw log from the landing files, and compare it with the live one.

    Args:
        warehouse: Where the raw log is.
        source: The landing folder, or `s3://BUCKET/PREFIX`, all of which is fetched.
        first: First day, UTC.
        last: Last day, itself included.
        swap: Put what was rebuilt in the place of the live rows on the days, and of the files, that differ. Done
            again, it changes nothing. The tables made of the raw log have to be built anew afterwards.

    Raises:
        SettingError: No such range.
        DataError: Days are to be swapped that hold events of files that are gone, or that moved to other days.
    """
    with warehouse.exclusive():
        try:
            rebuilt = rebuild(warehouse, source, first, last)
            days = tuple(compare_day(warehouse, day) for day in rebuilt.days)
            tables = compare_files(warehouse)
            if swap:
                refuse_to_lose(warehouse, days)
                days = tuple(swap_day(warehouse, day) for day in days)
                tables = swap_files(warehouse, tables)
            return Replay(rebuilt, days, tables)
        finally:
            clear(warehouse)


def rebuild(warehouse: Warehouse, source: Path | str, first: date, last: date) -> Rebuilt:
    """Load the files of the ledger into `SCHEMA`."""
    if last < first:
        raise SettingError(f"{first} to {last} is no range of days.", "The first day comes first.")
    if isinstance(source, str) and is_bucket(source):
        with fetched(source, lambda _name, _at: True) as folder:
            return rebuild(warehouse, folder, first, last)
    clear(warehouse)  # of a replay that was stopped
    with warehouse.transaction() as transaction:
        tables.ensure(transaction)
        files, lost = _loaded_files(transaction, Path(source))
    load_files(warehouse, files, _AS_LOADED, SCHEMA)
    with warehouse.transaction() as transaction:
        found = " union ".join(
            f"select {_DAY} as day from {schema}.events where {_DAY} between date '{first}' and date '{last}'"
            for schema in (_LIVE, SCHEMA)
        )
        days = transaction.query(f"select day from ({found}) as days order by day")
    return Rebuilt(len(files), lost, tuple(days.column(0).to_pylist()))


def clear(warehouse: Warehouse) -> None:
    """Drop what was rebuilt."""
    with warehouse.transaction() as transaction:
        transaction.execute(f"drop schema if exists {SCHEMA} cascade")


def compare_day(warehouse: Warehouse, day: date) -> Day:
    """Hold the live events of a day against the rebuilt ones."""
    with warehouse.transaction() as transaction:
        return _day(transaction, day)


def swap_day(warehouse: Warehouse, day: Day) -> Day:
    """Put the rebuilt events of a day in the place of the live ones, in one transaction, if they differ."""
    if not day.differs:
        return day
    with warehouse.transaction() as transaction:
        transaction.lock()
        found = _day(transaction, day.day)
        _refuse_gone(transaction, [day.day])
        transaction.execute(f"delete from {_LIVE}.events where {_on(day.day)}")
        # An event that is now on another day is on this one alone.
        transaction.execute(
            f"""delete from {_LIVE}.events where (shop, event_id) in (
                select shop, event_id from {SCHEMA}.events where {_on(day.day)})"""
        )
        # Under the names that the live ledger has for the same bytes.
        transaction.execute(
            f"""insert into {_LIVE}.events ({_CONTENT}, load_id, source_file, source_line)
            select {_of("event", _CONTENT)}, ledger.load_id, ledger.source_file, event.source_line
            from {SCHEMA}.events as event
            join {SCHEMA}.loads as again on again.load_id = event.load_id
            join {_LIVE}.loads as ledger on ledger.digest = again.digest
            where {_on(day.day)}"""
        )
    return replace(found, swapped=True)


def compare_files(warehouse: Warehouse) -> tuple[FileRows, ...]:
    """Hold the live products and dead letters of each file that is there against the rebuilt ones."""
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


def swap_files(warehouse: Warehouse, files: Iterable[FileRows]) -> tuple[FileRows, ...]:
    """Put the rebuilt products and dead letters of the files that differ in the place of the live ones."""
    files = tuple(files)
    with warehouse.transaction() as transaction:
        transaction.lock()
        for table in _OF_FILES:
            digests = [file.digest for file in files if file.differs and file.table == table]
            for start in range(0, len(digests), _BATCH):
                _swap_rows(transaction, table, digests[start : start + _BATCH])
    return tuple(replace(file, swapped=file.differs) for file in files)


def refuse_to_lose(warehouse: Warehouse, days: Iterable[Day]) -> None:
    """Stop before anything is swapped that the files cannot give back.

    Raises:
        DataError: Days that differ hold events of files that are gone, or that are on other days in the files.
    """
    differing = [day.day for day in days if day.differs]
    if differing:
        with warehouse.transaction() as transaction:
            _refuse_gone(transaction, differing)
            _refuse_moved(transaction, differing)


def _loaded_files(transaction: Transaction, source: Path) -> tuple[tuple[LandingFile, ...], tuple[str, ...]]:
    """Files of the ledger in the order they were loaded, and the names of those that are gone."""
    ledger = transaction.query(
        f"""select digest, source_file from {_LIVE}.loads where kind <> '{tables.ERASED}'
        order by loaded_at, source_file"""
    ).to_pylist()
    there = {digest(file): file for file in discover(source)[0]}
    found = tuple(there[row["digest"]] for row in ledger if row["digest"] in there)
    return found, tuple(row["source_file"] for row in ledger if row["digest"] not in there)


def _day(transaction: Transaction, day: date) -> Day:
    live, rebuilt = (
        f"(select {_DAY} as day, {_CONTENT} from {schema}.events where {_on(day)})" for schema in (_LIVE, SCHEMA)
    )
    counted = _differences(transaction, "day", live, rebuilt)
    found = Day(**counted[0]) if counted else Day(day=day, live=0, rebuilt=0, only_live=0, only_rebuilt=0)
    if not found.only_live + found.only_rebuilt:
        return found
    alone = f"({live} except {rebuilt}) union all ({rebuilt} except {live})"
    ids = transaction.query(f"select distinct event_id from ({alone}) as alone order by 1 limit {_EXAMPLES}")
    return replace(found, examples=tuple(ids.column(0).to_pylist()))


def _differences(transaction: Transaction, key: str, live: str, rebuilt: str) -> list[dict[str, Any]]:
    """For each value of a key, the rows that two queries have of it, both and alone."""
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
    """Queries for the live rows of the files that are there, or of none, and for the rebuilt ones."""
    selected = _of("row_of", content)
    live = f"""(select coalesce(ledger.digest, '{_NO_FILE}') as digest, {selected}
        from {_LIVE}.{table} as row_of
        left join {_LIVE}.loads as ledger
            on ledger.load_id = row_of.load_id and ledger.kind <> '{tables.ERASED}'
        where ledger.digest is null or ledger.digest in (select digest from {SCHEMA}.loads))"""
    rebuilt = f"""(select again.digest, {selected}
        from {SCHEMA}.{table} as row_of join {SCHEMA}.loads as again on again.load_id = row_of.load_id)"""
    return live, rebuilt


def _swap_rows(transaction: Transaction, table: str, digests: Sequence[str]) -> None:
    content = _OF_FILES[table]
    places = ", ".join("?" * len(digests))
    transaction.execute(
        f"""delete from {_LIVE}.{table} where load_id in (
            select load_id from {_LIVE}.loads where digest in ({places}) and kind <> '{tables.ERASED}')""",
        digests,
    )
    if _NO_FILE in digests:
        transaction.execute(f"delete from {_LIVE}.{table} where load_id not in (select load_id from {_LIVE}.loads)")
    received, received_at = "", ""
    if table == "dead_letters":
        # A row of an event file was received when it was loaded; the collector's letters say when.
        received = ", received_at"
        received_at = ", case when ledger.kind = 'dead_letters' then row_of.received_at else ledger.loaded_at end"
    # A catalogue's names come from a file beside it, which keeps its name.
    transaction.execute(
        f"""insert into {_LIVE}.{table} ({content}, load_id, source_file{received})
        select {_of("row_of", content)}, ledger.load_id,
            case when row_of.source_file = again.source_file then ledger.source_file else row_of.source_file end
            {received_at}
        from {SCHEMA}.{table} as row_of
        join {SCHEMA}.loads as again on again.load_id = row_of.load_id
        join {_LIVE}.loads as ledger on ledger.digest = again.digest
        where again.digest in ({places})""",
        digests,
    )


def _refuse_gone(transaction: Transaction, days: Sequence[date]) -> None:
    gone = transaction.query(
        f"""select distinct live.source_file as name from {_LIVE}.events as live
        join {_LIVE}.loads as ledger on ledger.load_id = live.load_id and ledger.kind <> '{tables.ERASED}'
        left join {SCHEMA}.loads as again on again.digest = ledger.digest
        where cast(live.event_time as date) in ({_dates(days)})
            and again.digest is null order by 1"""
    )["name"].to_pylist()
    if gone:
        raise DataError(
            f"Days that differ hold events of files that are gone: {_listed(gone)}.",
            "Bring the files back, or leave these days out.",
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
            f"Events of days that differ lie on other days in the files: {_listed([str(day) for day in moved])}.",
            "Take a range with all of these days.",
        )


def _on(day: date) -> str:
    """SQL: an event is of this day. As a range: a warehouse that knows the bounds of its blocks skips the others."""
    return f"event_time >= timestamp '{day}' and event_time < timestamp '{day + timedelta(days=1)}'"


def _dates(days: Iterable[date]) -> str:
    return ", ".join(f"date '{day}'" for day in days)


def _of(table: str, names: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names.split(", "))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
