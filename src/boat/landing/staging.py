"""Read a file into temporary tables of DuckDB: valid rows and dead letters. `landing_rows`
is a view of the records, `landing_failed` a table of the dead letters so far.

Rows of a file without flaws are typed while they are read. A file with flaws is read again as text, for the lines of
its records and for the payloads of dead letters.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import duckdb
import pyarrow.parquet as pq

from boat.errors import DataError
from boat.events import COUNTED_TYPES, OCCURRENCE
from boat.landing import rows
from boat.landing.dead_letters import MAX_PAYLOAD, BadRows, Reason
from boat.landing.files import LandingFile
from boat.landing.rows import Columns, is_row_by_row
from boat.landing.text import count_lines, find_damage, line_shifts, repaired_copy
from boat.landing.values import is_one_of, literal
from boat.warehouse import Transaction
from boat.warehouse.duckdb import DuckDBTransaction, scratch

_BATCH = 100_000
_MAX_TEXT, _MAX_KINDS = 80, 5
_KEEP_ALL = BadRows("quarantine", max_share=1)
_IS_BAD = f"flaw is not null and (flaw ->> 0) <> {literal(Reason.UNUSED)}"
_HOW_TO_QUARANTINE = (
    "Nothing was loaded. Correct the file. Or load the other rows and quarantine the bad ones in raw.dead_letters: "
    "use --on-bad-rows quarantine of `boat load`, or on_bad_rows=quarantine of `ingestion`."
)


@dataclass
class Reading:
    """A file that is being read.

    Attributes:
        local: DuckDB with its rows.
        file: The file.
        columns: Its columns, or the keys of its objects.
        quarantine: Whether bad rows become dead letters; otherwise they raise an error.
        is_numbered: Whether `landing_rows` reads a table with the line of each record, and not the file.
    """

    local: DuckDBTransaction
    file: LandingFile
    columns: Columns
    quarantine: bool
    is_numbered: bool = False

    def validate(self, view: str, rules: Callable[[str], str]) -> None:
        """Create a view of typed rows with the first `line` of each and their order (`row`); `drop` removes it.

        Rows with a `flaw` are in `landing_failed` too.

        Raises:
            UnreadableText: A record cannot be read.
            DataError: A row is bad, and bad rows are not quarantined.
        """
        query = rules(rows.select(self.file, self.columns))
        typed = _typed(view)
        self._type(typed, query)
        line = "line"
        if not self.is_numbered:
            if number(self.local, f"select count(*) - count(flaw) from {typed}") == _expected_records(self.file):
                line = f"rowid - {_first_rowid(self.local, typed)} + {self.file.first_line}"
            else:
                self.local.execute(f"drop table {typed}")
                self.number_lines()
                self._type(typed, query)
        self.local.execute(f"create temp view {view} as select rowid as row, * replace ({line} as line) from {typed}")
        self._fail_flaws(view)

    def _type(self, table: str, query: str) -> None:
        with _naming_damage(self.file, self.columns):
            self.local.execute(f"create table {table} as {query}")

    def _fail_flaws(self, view: str) -> None:
        if number(self.local, f"select count(*) from {view} where {_IS_BAD}") == 0:
            return
        if not self.quarantine:
            _raise_for_flaws(self, view)
        value = (
            f"case when length(flaw ->> 2) > {_MAX_TEXT} then left(flaw ->> 2, {_MAX_TEXT}) || '…' else flaw ->> 2 end"
        )
        self.fail(
            f"(select line, flaw ->> 0 as reason, flaw ->> 1 as field, "
            f"coalesce('''' || {value} || ''' ', '') || (flaw ->> 3) as message from {view} where {_IS_BAD})"
        )

    def number_lines(self, source: LandingFile | None = None) -> None:
        """Let `landing_rows` have the records as text with their first lines, if it does not yet.

        Args:
            source: A repaired copy to read instead of the file.

        Raises:
            UnreadableText: A record cannot be read.
        """
        if self.is_numbered:
            return
        source = source or self.file
        with _naming_damage(source, self.columns):
            # Stored as text: the scan of the file stays parallel, and the rowid of the table counts the records.
            text = rows.reader(source, len(self.columns.names))
            self.local.execute(f"create temp table landing_text as {text}")
        _number_lines(self.local, source)
        self.is_numbered = True

    def fail(self, failures: str) -> None:
        """Add dead letters: a relation with `line`, `reason`, `field` and `message`."""
        self.number_lines()
        payload = rows.payload(self.file, self.columns)
        self.local.execute(
            f"""insert into landing_failed
            select {literal(self.file.name)}, line, reason, field, message, left(payload, {MAX_PAYLOAD}), null
            from {failures} as failure
            join (select line, {payload} as payload from landing_rows) as recorded using (line)"""
        )

    def fail_lines(self, lines: list[int], reason: Reason, field: str, message: str) -> None:
        """Add dead letters for these lines, with the same reason."""
        if not lines:
            return
        self.local.execute("create temp table landing_lines (line bigint)")
        for start in range(0, len(lines), _BATCH):
            self.local.execute("insert into landing_lines select unnest(?)", [lines[start : start + _BATCH]])
        labels = f"{literal(reason)} as reason, {literal(field)} as field, {literal(message)} as message"
        self.fail(f"(select line, {labels} from landing_lines)")
        self.local.execute("drop table landing_lines")


def drop(local: DuckDBTransaction, view: str) -> None:
    """Drop the view and table of `Reading.validate`."""
    local.execute(f"drop view {view}; drop table if exists {_typed(view)}")


def unused_types(local: DuckDBTransaction, view: str) -> tuple[tuple[str, int], ...]:
    """Return the number of rows by event type that is known and not used, the most frequent first."""
    counted = local.query(
        f"""select flaw ->> 2 as name, count(*) as n from {view} where (flaw ->> 0) = {literal(Reason.UNUSED)}
        group by all order by n desc, name"""
    )
    return tuple((row["name"], row["n"]) for row in counted.to_pylist())


def number_equal_lines(local: DuckDBTransaction, file: LandingFile) -> None:
    """Give equal purchases, adds and removes in `landing_events` different ids; the first one is not changed.

    Two pens on two lines are two purchases. Lines are compared within a file. In the collector's files, which contain
    many requests, the collector has numbered the equal events of each request.
    """
    counted = f"flaw is null and not has_id and {is_one_of('event_type', COUNTED_TYPES)}"
    if file.is_collected:
        occurrence = f"try_cast(json_extract_string(extra, '$.{OCCURRENCE}') as integer)"
        numbered = f"""select row, event_id, {occurrence} as n from landing_events
            where {counted} and extra is not null and contains(extra, '"{OCCURRENCE}"')"""
    else:
        numbered = f"""select row, event_id, row_number() over (partition by shop, event_id order by row) as n
            from landing_events
            where {counted} and hash(shop, event_id) in (
                select hash(shop, event_id) from landing_events where {counted} group by all having count(*) > 1)"""
    local.execute(
        f"""create temp table landing_equal as
        select row, md5(concat_ws(chr(31), event_id, n)) as event_id from ({numbered}) where n > 1"""
    )
    local.execute(
        f"""update {_typed("landing_events")} as event set event_id = equal.event_id
        from landing_equal as equal where event.rowid = equal.row;
        drop table landing_equal"""
    )


def _typed(view: str) -> str:
    return f"{view}_typed"


def clear_failed(local: DuckDBTransaction) -> None:
    """Create an empty table of dead letters."""
    local.execute(
        """create or replace temp table landing_failed (source_file varchar, source_line bigint, reason varchar,
        field varchar, message varchar, payload varchar, received_at timestamp)"""
    )


class UnreadableText(DataError):
    """A text file with a record that DuckDB cannot read. DuckDB aborts the transaction.

    Attributes:
        path: The file.
    """

    path = Path()


@contextmanager
def reading(local: DuckDBTransaction, file: LandingFile, bad_rows: BadRows, repair: bool = False) -> Iterator[Reading]:
    """Open a file as `landing_rows`.

    Args:
        local: DuckDB for the tables.
        file: File to read.
        bad_rows: How to handle records that cannot be read.
        repair: Whether to quarantine records that DuckDB could not read before.

    Raises:
        UnreadableText: A record of a text file cannot be read; a second try can repair that.
        DataError: The file, or a record that is not quarantined, cannot be read.
    """
    columns = Columns((), {}) if file.is_json else rows.columns(file)
    opened = Reading(local, file, columns, quarantines(file, bad_rows))
    if repair:
        with tempfile.TemporaryDirectory(prefix="boat-repaired-") as folder:
            opened.number_lines(_repaired(opened, Path(folder)))
    elif file.is_json or not is_row_by_row(file):
        opened.number_lines()
    else:
        text = rows.reader(file, len(columns.names))
        local.execute(f"create temp view landing_rows as select null as record, null::bigint as line, * from ({text})")
    if file.is_json:
        _quarantine_broken_json(opened)
        opened.columns = rows.keys(local, file)
    yield opened
    local.execute("drop view landing_rows; drop table if exists landing_text; drop table if exists landing_shifts")


@contextmanager
def read_alone(file: LandingFile, stage: Callable[[Reading], None]) -> Iterator[Reading]:
    """Read a file into temporary tables of a separate DuckDB. All bad rows are quarantined.

    Args:
        file: File to read.
        stage: Creates further tables while `landing_rows` exists.

    Raises:
        DataError: The file cannot be read.
    """
    with scratch() as local:
        for repair in (False, True):
            clear_failed(local)
            try:
                with reading(local, file, _KEEP_ALL, repair) as opened:
                    stage(opened)
                break
            except UnreadableText:
                if repair:
                    raise
        yield opened


def quarantines(file: LandingFile, bad_rows: BadRows) -> bool:
    """Return whether bad rows of a file become dead letters."""
    return bad_rows.do == "quarantine" or file.is_collected or file.kind == "dead_letters"


def _repaired(reading: Reading, folder: Path) -> LandingFile:
    file = reading.file
    copy = replace(file, path=folder / f"repaired.{file.format}")
    for damage in repaired_copy(file, len(reading.columns.names), copy.path):
        reading.local.execute(
            f"insert into landing_failed values (?, ?, ?, '', ?, left(?, {MAX_PAYLOAD}), null)",
            [file.name, damage.line, damage.reason, damage.message, damage.text],
        )
    return copy


@contextmanager
def _naming_damage(file: LandingFile, columns: Columns) -> Iterator[None]:
    try:
        yield
    except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.IOException) as error:
        damage = None if file.format in {"parquet", "json"} else find_damage(file, len(columns.names))
        reason = str(error).splitlines()[0].rstrip(" .:")
        wrong = damage or DataError(
            f"{file.name}: the file cannot be read ({reason}).", "Check that the file is complete."
        )
        if file.format == "parquet":
            raise wrong from error
        unreadable = UnreadableText(wrong.message, wrong.hint)
        unreadable.path = file.path
        raise unreadable from error


def _expected_records(file: LandingFile) -> int:
    """Return the number of records of a file if each has a separate line."""
    return pq.read_metadata(file.path).num_rows if file.format == "parquet" else _record_lines(file)


def _record_lines(file: LandingFile) -> int:
    """Return the number of lines of a text file without its header."""
    return count_lines(file) - file.first_line + 1


def _first_rowid(local: DuckDBTransaction, table: str) -> int:
    """Return the first rowid of a table: in an open transaction, DuckDB starts at a large number."""
    return number(local, f"select coalesce(min(rowid), 0) from {table}")


def _number_lines(local: DuckDBTransaction, file: LandingFile) -> None:
    """Create the view `landing_rows` of `landing_text`: the records with their first lines."""
    start, first = _first_rowid(local, "landing_text"), file.first_line
    numbered = f"select rowid - {start} as record, rowid - {start} + {first} as line, * from landing_text"
    view = f"create or replace temp view landing_rows as {numbered}"
    if file.format == "csv" and number(local, "select count(*) from landing_text") != _record_lines(file):
        local.execute("create temp table landing_shifts (record bigint, shift bigint)")
        shifts = line_shifts(file)
        while batch := list(islice(shifts, _BATCH)):
            records, ahead = zip(*batch, strict=True)
            local.execute("insert into landing_shifts select unnest(?), unnest(?)", [list(records), list(ahead)])
        view = f"""create or replace temp view landing_rows as
            select text.* replace (line + coalesce(shift, 0) as line)
            from ({numbered}) as text
            asof left join landing_shifts on text.record >= landing_shifts.record
            order by text.record"""
    local.execute(view)


def _quarantine_broken_json(reading: Reading) -> None:
    local = reading.local
    broken = "case when not json_valid(json) then true else json_type(json) <> 'OBJECT' end"
    if number(local, f"select count(*) from landing_text where {broken}") == 0:
        return
    if not reading.quarantine:
        _raise_for_broken_json(local, reading.file, broken)
    reason = f"case when json_valid(json) then {literal(Reason.NOT_AN_OBJECT)} else {literal(Reason.NOT_JSON)} end"
    columns = f"line, {reason} as reason, '' as field, 'is not a JSON object' as message"
    reading.fail(f"(select {columns} from landing_rows where {broken})")
    local.execute(
        f"update landing_text set json = null where {broken}"
    )  # deleting it would change the lines of later records


def _raise_for_broken_json(local: DuckDBTransaction, file: LandingFile, broken: str) -> NoReturn:
    (row,) = local.query(f"select line, json from landing_rows where {broken} order by line limit 1").to_pylist()
    raise DataError(
        f"{file.position(row['line'])}: {_shown(row['json'])} is not a JSON object.", "Write one object on each line."
    )


def _raise_for_flaws(reading: Reading, table: str) -> NoReturn:
    (row,) = reading.local.query(
        f"""select line, flaw, count(distinct line) over () as bad, (select count(*) from landing_rows) as received
        from {table} where {_IS_BAD} order by line limit 1"""
    ).to_pylist()
    _reason, name, value, message = json.loads(row["flaw"])
    value_text = "" if value is None else f" {_shown(value)}"
    more = f" {row['bad']:,} of {row['received']:,} rows {_kinds(reading, table)}." if row["bad"] > 1 else ""
    column = reading.columns.source(name)
    raise DataError(f"{reading.file.position(row['line'])}: {column}{value_text} {message}.{more}", _HOW_TO_QUARANTINE)


def _kinds(reading: Reading, table: str) -> str:
    """Return the number of bad rows by problem, the most frequent first: event types by name, others by column."""
    kinds = reading.local.query(
        f"""select flaw ->> 1 as name, case when flaw ->> 0 = {literal(Reason.UNKNOWN_EVENT_TYPE)} then flaw ->> 2 end
            as value, count(*) as n
        from (select distinct on (line) line, flaw from {table} where {_IS_BAD})
        group by all order by n desc, name, value limit {_MAX_KINDS}"""
    ).to_pylist()
    column = reading.columns.source
    texts = [
        f"{column(kind['name'])} {_shown(kind['value'])}" if kind["value"] else column(kind["name"]) for kind in kinds
    ]
    counted = [f"{text} in {kind['n']:,}" for text, kind in zip(texts, kinds, strict=True)]
    return f"are bad: {', '.join(counted)}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT] + "…")


def number(transaction: Transaction | DuckDBTransaction, sql: str, *parameters: str) -> int:
    """Return the single number of a query."""
    counted: int = transaction.query(sql, parameters).column(0)[0].as_py()
    return counted
