"""Load landing files into the raw log, in one transaction, with a ledger of files."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from boat import progress
from boat.errors import DataError
from boat.events import COLUMNS
from boat.landing import validation
from boat.landing.bucket import fetched, is_bucket
from boat.landing.dead_letters import MAX_PAYLOAD, BadRows, Reason
from boat.landing.discovery import discover
from boat.landing.files import FileKind, Ignored, LandingFile, digest
from boat.landing.rows import EVENT_FIELDS, LAYOUTS, PRODUCT_FIELDS
from boat.landing.staging import (
    Reading,
    UnreadableText,
    clear_failed,
    drop,
    number,
    number_equal_lines,
    quarantines,
    reading,
    unused_types,
)
from boat.landing.values import literal
from boat.raw_log import tables
from boat.warehouse import Transaction, Warehouse
from boat.warehouse.duckdb import DuckDBTransaction

_NAMES = f"{', '.join(EVENT_FIELDS)}, extra"
_SAME_ID = "known.shop = event.shop and known.event_id = event.event_id"
_SECOND = timedelta(seconds=1)
_STOP = BadRows("stop")
_READING_SHARE = 0.6
"""Part of the time of a load until the rows of the file are read and validated."""
_NOT_BODY = ("shop", "event_id", "event_time", "received_at")


@dataclass(frozen=True)
class FileLoad:
    """The result of loading one file.

    Attributes:
        source_file: Name of the file, relative to the loaded folder.
        kind: FileKind of its rows.
        received: Number of events, products or dead letters; `received = accepted + duplicate + failed`.
        accepted: Number of rows that are new in the raw log.
        duplicate: Number of events that were already in the log, or earlier in the file.
        failed: Number of rows in `raw.dead_letters`.
        reasons: Number of failed rows by the name of the reason.
        already_loaded: Whether its bytes were loaded before, under any name. Nothing changed, and the counts are 0.
        unused: Number of rows by event type that is known and not used; no other count includes them.
        notes: How ambiguous columns were read, for people.
    """

    source_file: str
    kind: FileKind
    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    failed: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    already_loaded: bool = False
    unused: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """The results of all files. `ignored` has files that were not loaded, with the reason."""

    files: tuple[FileLoad, ...]
    ignored: tuple[Ignored, ...]

    @property
    def received(self) -> int:
        """Return the number of received rows."""
        return sum(file.received for file in self.files)

    @property
    def accepted(self) -> int:
        """Return the number of accepted rows."""
        return sum(file.accepted for file in self.files)

    @property
    def duplicate(self) -> int:
        """Return the number of duplicates."""
        return sum(file.duplicate for file in self.files)

    @property
    def failed(self) -> int:
        """Return the number of failed rows."""
        return sum(file.failed for file in self.files)


def load(warehouse: Warehouse, source: Path | str, bad_rows: BadRows = _STOP, layout: str | None = None) -> LoadReport:
    """Append a file, or all files of a folder and its subfolders, to the raw log. `boat.landing` lists the formats.

    From `s3://BUCKET/PREFIX`, files are downloaded that are not in the ledger, or were written after their load.

    An error in one file leaves the raw log unchanged. The same file again changes nothing, and an event in two files
    is loaded once. An event without an `event_id` gets an id from its content. An event with the id of another one but
    other content is a dead letter, and so are quarantined rows.

    Args:
        warehouse: Where the raw log is.
        source: File, folder or bucket to load.
        bad_rows: How to handle bad rows.
        layout: Layout of the event files, if it cannot be recognised; see `boat.landing.layouts`.

    Raises:
        SettingError: The layout is unknown.
        DataError: A file cannot be read, a row is bad and not quarantined, or too many rows are bad. The error names
            file, line, field and value.
    """
    if isinstance(source, str) and is_bucket(source):
        loaded_at = _last_loads(warehouse)
        # Times of a bucket are whole seconds, which can be before the load.
        with fetched(source, lambda name, at: name not in loaded_at or at + _SECOND >= loaded_at[name]) as folder:
            return load(warehouse, folder, bad_rows, layout)
    source = Path(source)
    files, ignored = discover(source, layout)
    loads = load_files(warehouse, files, bad_rows)
    return LoadReport(loads, ignored)


def _last_loads(warehouse: Warehouse) -> dict[str, datetime]:
    """Return the time of the last load of each file of the ledger, UTC, by name."""
    with warehouse.transaction() as transaction:
        tables.ensure(transaction)
        ledger = transaction.query(
            f"select source_file, max(loaded_at) as at from {tables.SCHEMA}.loads group by source_file"
        ).to_pylist()
    return {row["source_file"]: row["at"] for row in ledger}


def load_files(
    warehouse: Warehouse, files: Iterable[LandingFile], bad_rows: BadRows, schema: str = tables.SCHEMA
) -> tuple[FileLoad, ...]:
    """Append files, in this order and in one transaction, to the raw log in a schema."""
    files, repair = tuple(files), set[Path]()
    while True:
        try:
            with warehouse.transaction() as transaction, transaction.scratch() as local:
                tables.ensure(transaction, schema)
                transaction.lock()
                sizes = [file.path.stat().st_size for file in files]
                loader = _Loader(transaction, local, bad_rows, schema, frozenset(repair), sum(sizes))
                return tuple(loader.load(file) for file in files)
        except UnreadableText as error:
            # Start again: DuckDB aborts a transaction in which a file could not be read.
            repairable = {file.path for file in files if quarantines(file, bad_rows)} - repair
            if error.path not in repairable:
                raise
            repair.add(error.path)


@dataclass(frozen=True)
class _Counts:
    """Counts of one file. `received` is the number of rows read, the others are rows of tables; see `FileLoad`."""

    received: int
    accepted: int = 0
    duplicate: int = 0
    unused: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


class _Loader:
    """Appends files within an open transaction."""

    def __init__(
        self,
        transaction: Transaction,
        local: DuckDBTransaction,
        bad_rows: BadRows,
        schema: str,
        repair: frozenset[Path],
        total_bytes: int,
    ) -> None:
        self._transaction, self._local, self._bad_rows = transaction, local, bad_rows
        self._schema, self._repair = schema, repair
        self._loaded_bytes, self._total_bytes = 0, total_bytes

    def load(self, file: LandingFile) -> FileLoad:
        """Load a file and report how many bytes are loaded."""
        loaded = self._load(file)
        self._loaded_bytes += file.path.stat().st_size
        progress.report(file.name, self._loaded_bytes, self._total_bytes, "bytes")
        return loaded

    def _watched(self, file: LandingFile, begin: float, end: float) -> AbstractContextManager[None]:
        """Report the progress of a block that takes a load from one part of its time to another."""

        def report(share: float) -> None:
            loaded = self._loaded_bytes + (begin + (end - begin) * share) * file.path.stat().st_size
            progress.report(file.name, loaded, self._total_bytes, "bytes")

        return self._local.watched(report)

    def _load(self, file: LandingFile) -> FileLoad:
        before, content = file.path.stat(), digest(file)
        if number(self._transaction, f"select count(*) from {self._schema}.loads where digest = ?", content):
            return FileLoad(file.name, file.kind, already_loaded=True)
        load_id = content[:16]
        clear_failed(self._local)
        counts = self._append(file, load_id)
        failed = self._append_failed(load_id)
        after = file.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(
                f"{file.name}: the file changed while it was loaded.",
                "Write the file under a name that ends in .tmp, and rename it when it is complete.",
            )
        if counts.received != counts.accepted + counts.duplicate + failed:
            raise DataError(
                f"{file.name}: {counts.received} rows were received, but accepted {counts.accepted}, duplicate "
                f"{counts.duplicate} and failed {failed} do not add up to that.",
                "Nothing was loaded. Check whether another program writes to the raw log.",
            )
        self._transaction.execute(
            f"insert into {self._schema}.loads values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                load_id, file.name, content, file.kind,
                counts.received, counts.accepted, counts.duplicate, failed, _now(),
            ],
        )  # fmt: skip
        reasons = self._local.query("select reason, count(*) as n from landing_failed group by all order by all")
        by_reason = tuple((row["reason"], row["n"]) for row in reasons.to_pylist())
        return FileLoad(
            file.name, file.kind, counts.received, counts.accepted, counts.duplicate, failed, by_reason,
            unused=counts.unused, notes=counts.notes,
        )  # fmt: skip

    def _reading(self, file: LandingFile) -> AbstractContextManager[Reading]:
        return reading(self._local, file, self._bad_rows, repair=file.path in self._repair)

    def _append(self, file: LandingFile, load_id: str) -> _Counts:
        if file.kind == "dead_letters":
            return self._append_dead_letters(file)
        if LAYOUTS[file.kind].fields is PRODUCT_FIELDS:
            return self._append_products(file, load_id)
        return self._append_events(file, load_id)

    def _append_events(self, file: LandingFile, load_id: str) -> _Counts:
        with self._reading(file) as rows:
            unread = self._failed()
            with self._watched(file, 0, _READING_SHARE):
                rows.validate("landing_events", validation.events)
            unused = unused_types(self._local, "landing_events")
            received = unread + number(self._local, "select count(*) from landing_events") - sum(dict(unused).values())
            self._stop_at_too_many(file, received)
            number_equal_lines(self._local, file)
            self._find_repeats()
            with self._watched(file, _READING_SHARE, 1):
                accepted, duplicate = self._insert_events(rows, load_id)
            drop(self._local, "landing_events")
            self._local.execute("drop table landing_repeats")
            return _Counts(received, accepted, duplicate, unused, rows.columns.notes())

    def _find_repeats(self) -> None:
        """Create a table of events with the id of an earlier event of the file."""
        # Few events share a hash, and grouping by hash is cheap; only events that share one are compared.
        self._local.execute(
            """create temp table landing_repeats as
            select row as event from landing_events
            where flaw is null and hash(shop, event_id) in (
                select hash(shop, event_id) from landing_events where flaw is null group by all having count(*) > 1)
            qualify row_number() over (partition by shop, event_id order by row) > 1"""
        )

    def _insert_events(self, rows: Reading, load_id: str) -> tuple[int, int]:
        """Insert new events. Return the number of new events and the number of duplicates."""
        good = number(self._local, "select count(*) from landing_events where flaw is null")
        names = ", ".join((*EVENT_FIELDS, "extra", "line", "has_id"))
        rows_with_first = f"""select {names}, row as ordinal, row not in (select event from landing_repeats) as is_first
            from landing_events where flaw is null"""
        with self._transaction.upload(self._local, rows_with_first) as events:
            self._transaction.execute(
                f"""insert into {self._schema}.events ({_NAMES}, load_id, source_file, source_line)
                select {_NAMES}, ?, ?, line from {events} as event
                where is_first and ordinal not in ({self._known(events, "event.ordinal")})""",
                [load_id, rows.file.name],
            )
            accepted = number(
                self._transaction, f"select count(*) from {self._schema}.events where load_id = ?", load_id
            )
            if accepted == good:
                return accepted, 0
            repeats = number(self._local, "select count(*) from landing_repeats")
            known = 0 if accepted + repeats == good else self._known_before(events, load_id)
            has_ids = number(self._local, "select count(*) from landing_events where flaw is null and has_id")
            conflicts = self._conflicts(events) if has_ids else []
        message = "Another event has this id. The first one counts."
        rows.fail_lines(conflicts, Reason.ID_CONFLICT, "event_id", message)
        return accepted, repeats + known - len(conflicts)

    def _known_before(self, events: str, load_id: str) -> int:
        """Return the number of events that were in the raw log before this load."""
        return number(self._transaction, f"{self._known(events, 'count(*)')} and known.load_id <> ?", load_id)

    def _known(self, events: str, columns: str) -> str:
        """Return a query of the events that are in the raw log.

        It joins ids only. `not exists` would let DuckDB keep all columns of all rows in memory.
        """
        return f"""select {columns} from {events} as event
            join {self._schema}.events as known on {_SAME_ID} where is_first"""

    def _conflicts(self, events: str) -> list[int]:
        """Return lines of events with the id of another event but other content. Ids from content cannot conflict."""
        lines = self._transaction.query(
            f"""select distinct event.line from {events} as event
            join {self._schema}.events as known on {_SAME_ID}
            where event.has_id and ({_other_body("event", "known")})"""
        )
        numbers: list[int] = lines.column(0).to_pylist()
        return numbers

    def _append_products(self, file: LandingFile, load_id: str) -> _Counts:
        """Insert all rows of a catalogue, with names from its `product_names.csv` if there is one."""
        with self._reading(file) as rows:
            rows.validate("landing_products", validation.products)
        if file.names:
            with self._reading(file.names) as rows:
                rows.validate("landing_names", validation.products)
        else:
            self._local.execute("create temp view landing_names as from landing_products limit 0")
        named = f"""
            select coalesce(p.shop, n.shop) as shop, coalesce(p.product_id, n.product_id) as product_id,
                coalesce(n.product_name, p.product_name) as product_name, p.category, p.price, p.extra,
                case when p.line is null then {literal(file.names.name if file.names else "")}
                else {literal(file.name)} end as source_file, coalesce(p.line, n.line) as line
            from (from landing_products where flaw is null) as p
            full join (from landing_names where flaw is null) as n on p.shop = n.shop and p.product_id = n.product_id"""
        received = number(self._local, f"select count(*) from ({named})") + self._failed()
        self._stop_at_too_many(file, received)
        with self._transaction.upload(self._local, named) as products:
            self._transaction.execute(
                f"""insert into {self._schema}.products
                select shop, product_id, product_name, category, price, extra, ?, source_file, line
                from {products} as product""",
                [load_id],
            )
        drop(self._local, "landing_names")
        drop(self._local, "landing_products")
        count = f"select count(*) from {self._schema}.products where load_id = ?"
        return _Counts(received, number(self._transaction, count, load_id))

    def _append_dead_letters(self, file: LandingFile) -> _Counts:
        """Append dead letters of the collector."""
        reason, field, message, payload, received_at = (f"json ->> '{name}'" for name in LAYOUTS["dead_letters"].fields)
        with self._reading(file):
            self._local.execute(
                f"""insert into landing_failed
                select {literal(file.name)}, line, coalesce({reason}, 'unknown'), {field}, {message},
                    left({payload}, {MAX_PAYLOAD}), try_cast({received_at} as timestamptz) at time zone 'UTC'
                from landing_rows where json is not null"""
            )
        return _Counts(self._failed())

    def _failed(self) -> int:
        return number(self._local, "select count(*) from landing_failed")

    def _stop_at_too_many(self, file: LandingFile, received: int) -> None:
        bad = self._failed()
        if file.is_collected or not self._bad_rows.are_too_many(bad, received):
            return
        (first,) = self._local.query("from landing_failed order by source_line limit 1").to_pylist()
        raise DataError(
            f"{file.name}: {bad} of {received} rows are bad, more than {self._bad_rows.max_share:.0%}. "
            f"The first is in line {first['source_line']}: {first['field']} {first['message']}.",
            "Nothing was loaded. Check that it is the right file, or raise the limit with --max-bad-share.",
        )

    def _append_failed(self, load_id: str) -> int:
        """Append the failed rows to the dead letters; return the number of dead letters of this load."""
        if self._failed() == 0:
            return 0
        with self._transaction.upload(self._local, "select * from landing_failed") as letters:
            self._transaction.execute(
                f"""insert into {self._schema}.dead_letters
                select ?, source_file, source_line, reason, field, message, payload,
                    coalesce(received_at, cast(? as timestamp))
                from {letters} as letter""",
                [load_id, _now()],
            )
        return number(self._transaction, f"select count(*) from {self._schema}.dead_letters where load_id = ?", load_id)


def _other_body(one: str, other: str) -> str:
    """Return SQL: two events differ in their content, except for the time and the way of their receipt.

    `extra` is ignored, because the collector adds data of each request. So is a time that the collector set.
    """
    names = [column.name for column in COLUMNS if column.name not in _NOT_BODY]
    times = [f"case when {e}.event_time = {e}.received_at then null else {e}.event_time end" for e in (one, other)]
    pairs = [(f"{one}.{name}", f"{other}.{name}") for name in names]
    return " or ".join(f"{left} is distinct from {right}" for left, right in [*pairs, (times[0], times[1])])


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
