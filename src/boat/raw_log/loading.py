"""Loading: everything at a place into the raw log, in one transaction, with a ledger of files."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from boat.errors import DataError
from boat.events import COLUMNS
from boat.landing import validation
from boat.landing.bucket import fetched, is_bucket
from boat.landing.dead_letters import MAX_PAYLOAD, BadRows, Reason
from boat.landing.files import Ignored, Kind, LandingFile, digest, discover
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
_NOT_BODY = ("shop", "event_id", "event_time", "received_at")


@dataclass(frozen=True)
class FileLoad:
    """What became of one file.

    Attributes:
        source_file: Its name below the folder that was loaded.
        kind: What its rows are.
        received: Events, products or dead letters in it; `received = accepted + duplicate + failed`.
        accepted: New in the raw log.
        duplicate: Events that were there already, in the log or earlier in the file.
        failed: In `raw.dead_letters`.
        reasons: How many of them for which reason, by its name.
        already_loaded: Its bytes were loaded before, under whatever name: nothing changed, the counts are 0.
        unused: Rows of each event type that is understood and not used; they are in no other count.
        notes: How ambiguous columns were understood, for a person to read.
    """

    source_file: str
    kind: Kind
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
    """What became of all files; `ignored` holds those that were not loaded, with the reason."""

    files: tuple[FileLoad, ...]
    ignored: tuple[Ignored, ...]

    @property
    def received(self) -> int:
        return sum(file.received for file in self.files)

    @property
    def accepted(self) -> int:
        return sum(file.accepted for file in self.files)

    @property
    def duplicate(self) -> int:
        return sum(file.duplicate for file in self.files)

    @property
    def failed(self) -> int:
        return sum(file.failed for file in self.files)


def load(warehouse: Warehouse, source: Path | str, bad_rows: BadRows = _STOP, layout: str | None = None) -> LoadReport:
    """Append what is in a file, or in a folder and below it, to the raw log. See `boat.landing` for what can be loaded.

    Of `s3://BUCKET/PREFIX` those files are fetched that the ledger does not name, or that were written since.

    All or nothing: an error in one file leaves the raw log as it was. The same file again changes nothing, and an event
    that two files hold is taken once. An event without an `event_id` gets one made of its content; one that has the id
    of another but says something else goes to the dead letters, as do bad rows that are to be kept apart.

    Args:
        warehouse: Where the raw log is.
        source: What to load.
        bad_rows: What to do about rows that cannot be taken.
        layout: Layout of the event files, if it cannot be told from them; see `boat.landing.layouts`.

    Raises:
        SettingError: The layout is not known.
        DataError: A file cannot be read, or a row cannot be taken and is not to be kept apart; names file, line, field
            and value. Or too many are kept apart.
    """
    if isinstance(source, str) and is_bucket(source):
        known = _last_loads(warehouse)
        # A bucket tells the time in whole seconds, which may lie before the load.
        with fetched(source, lambda name, at: name not in known or at + _SECOND >= known[name]) as folder:
            return load(warehouse, folder, bad_rows, layout)
    source = Path(source)
    files, ignored = discover(source, layout)
    loads = load_files(warehouse, files, bad_rows)
    return LoadReport(loads, ignored)


def _last_loads(warehouse: Warehouse) -> dict[str, datetime]:
    """When each file of the ledger was last loaded, UTC, by its name."""
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
    files, mend = tuple(files), set[Path]()
    while True:
        try:
            with warehouse.transaction() as transaction, transaction.scratch() as local:
                tables.ensure(transaction, schema)
                transaction.lock()
                loader = _Loader(transaction, local, bad_rows, schema, frozenset(mend))
                return tuple(loader.load(file) for file in files)
        except UnreadableText as error:
            # All again from the start: DuckDB gives up a transaction in which a file could not be read.
            mendable = {file.path for file in files if quarantines(file, bad_rows)} - mend
            if error.path not in mendable:
                raise
            mend.add(error.path)


@dataclass(frozen=True)
class _Counts:
    """Of one file. `received` is what was read of it, the others what is now in the tables; see `FileLoad`."""

    received: int
    accepted: int = 0
    duplicate: int = 0
    unused: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


class _Loader:
    """Appends files within an open transaction."""

    def __init__(
        self, transaction: Transaction, local: DuckDBTransaction, bad_rows: BadRows, schema: str, mend: frozenset[Path]
    ) -> None:
        self._transaction, self._local, self._bad_rows = transaction, local, bad_rows
        self._schema, self._mend = schema, mend

    def load(self, file: LandingFile) -> FileLoad:
        before, content = file.path.stat(), digest(file)
        if number(self._transaction, f"select count(*) from {self._schema}.loads where digest = ?", content):
            return FileLoad(file.name, file.kind, already_loaded=True)
        load_id = content[:16]
        clear_failed(self._local)
        counts = self._append(file, load_id)
        failed = self._bury(load_id)
        after = file.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(
                f"{file.name}: changed while it was loaded.", "Write *.tmp and rename it when it is complete."
            )
        if counts.received != counts.accepted + counts.duplicate + failed:
            raise DataError(
                f"{file.name}: received {counts.received} rows, but accepted {counts.accepted}, duplicate "
                f"{counts.duplicate} and failed {failed} do not add up to that.",
                "Nothing was loaded. Does another program write to the raw log?",
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
        return reading(self._local, file, self._bad_rows, mend=file.path in self._mend)

    def _append(self, file: LandingFile, load_id: str) -> _Counts:
        if file.kind == "dead_letters":
            return self._append_dead_letters(file)
        if LAYOUTS[file.kind].fields is PRODUCT_FIELDS:
            return self._append_products(file, load_id)
        return self._append_events(file, load_id)

    def _append_events(self, file: LandingFile, load_id: str) -> _Counts:
        with self._reading(file) as rows:
            unread = self._failed()
            rows.validate("landing_events", validation.events)
            unused = unused_types(self._local, "landing_events")
            received = unread + number(self._local, "select count(*) from landing_events") - sum(dict(unused).values())
            self._stop_at_too_many(file, received)
            number_equal_lines(self._local, file)
            self._find_repeats()
            accepted, duplicate = self._insert_events(rows, load_id)
            drop(self._local, "landing_events")
            self._local.execute("drop table landing_repeats")
            return _Counts(received, accepted, duplicate, unused, rows.columns.notes())

    def _find_repeats(self) -> None:
        """Make a table of the events whose id an earlier one of the file has."""
        # Few events share a hash, which is narrow to group by; only those are compared.
        self._local.execute(
            """create temp table landing_repeats as
            select row as event from landing_events
            where flaw is null and hash(shop, event_id) in (
                select hash(shop, event_id) from landing_events where flaw is null group by all having count(*) > 1)
            qualify row_number() over (partition by shop, event_id order by row) > 1"""
        )

    def _insert_events(self, rows: Reading, load_id: str) -> tuple[int, int]:
        """Insert the events that are new; returns how many they are, and how many were there already."""
        good = number(self._local, "select count(*) from landing_events where flaw is null")
        names = ", ".join((*EVENT_FIELDS, "extra", "line", "has_id"))
        every = f"""select {names}, row not in (select event from landing_repeats) as is_first
            from landing_events where flaw is null"""
        with self._transaction.received(self._local, every) as events:
            self._transaction.execute(
                f"""insert into {self._schema}.events ({_NAMES}, load_id, source_file, source_line)
                select {_NAMES}, ?, ?, line from {events} as event
                where is_first and not exists (select 1 from {self._schema}.events as known where {_SAME_ID})""",
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
        """How many of the events the raw log had before this load."""
        return number(
            self._transaction,
            f"""select count(*) from {events} as event where is_first and exists (
                select 1 from {self._schema}.events as known where {_SAME_ID} and known.load_id <> ?)""",
            load_id,
        )

    def _conflicts(self, events: str) -> list[int]:
        """Lines of events that say something else than the one that has their id. Ids made of content cannot."""
        lines = self._transaction.query(
            f"""select distinct event.line from {events} as event
            join {self._schema}.events as known on {_SAME_ID}
            where event.has_id and ({_other_body("event", "known")})"""
        )
        found: list[int] = lines.column(0).to_pylist()
        return found

    def _append_products(self, file: LandingFile, load_id: str) -> _Counts:
        """Insert all rows of a catalogue, with the names of `product_names.csv` where that goes with it."""
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
        with self._transaction.received(self._local, named) as products:
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
        """What the collector did not take is a dead letter already."""
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
            f"{file.name}: {bad} of {received} rows cannot be taken, more than {self._bad_rows.max_share:.0%}. "
            f"The first is in line {first['source_line']}: {first['field']} {first['message']}.",
            "Nothing was loaded: is it the right file?",
        )

    def _bury(self, load_id: str) -> int:
        """Move what failed to the raw log's dead letters; returns how many are there of this load."""
        if self._failed() == 0:
            return 0
        with self._transaction.received(self._local, "select * from landing_failed") as letters:
            self._transaction.execute(
                f"""insert into {self._schema}.dead_letters
                select ?, source_file, source_line, reason, field, message, payload,
                    coalesce(received_at, cast(? as timestamp))
                from {letters} as letter""",
                [load_id, _now()],
            )
        return number(self._transaction, f"select count(*) from {self._schema}.dead_letters where load_id = ?", load_id)


def _other_body(one: str, other: str) -> str:
    """SQL: whether two events say something different, apart from when and how they came here.

    `extra` is left out: the collector adds to it what it saw of each request. So is a time that it gave itself.
    """
    names = [column.name for column in COLUMNS if column.name not in _NOT_BODY]
    times = [f"case when {e}.event_time = {e}.received_at then null else {e}.event_time end" for e in (one, other)]
    pairs = [(f"{one}.{name}", f"{other}.{name}") for name in names]
    return " or ".join(f"{left} is distinct from {right}" for left, right in [*pairs, (times[0], times[1])])


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
