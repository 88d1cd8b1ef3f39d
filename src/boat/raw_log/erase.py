"""Erase one client everywhere: landing files, raw log, dead letters, tables made of them, and snapshots.

It is a command and no flow: a flow run keeps its parameters, and the client's id would be one. A dry run counts.

A row is erased if it has the client's id as a whole value in `client_id` or in another field or URL parameter of
clients (`boat.raw_log.traces.CLIENT_NAMES`), or if it has no client and its session is the client's alone. The same id
anywhere else, as a product `7` or a search for "7", is counted and stays.

Files are rewritten beside themselves first. Then rows go and the ledger learns the new digests, in one transaction, and
the files take their places, in a bucket too; what a bucket keeps of them goes last. Stopped in between, the old files
are known as erased and are not loaded again: erase again to finish.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from boat.errors import DataError
from boat.events import ValueProblem, identifier, plain_name
from boat.landing import bucket
from boat.landing.files import LandingFile, digest, discover
from boat.raw_log import tables
from boat.raw_log.traces import (
    CLIENT_NAMES,
    COPY_PREFIX,
    Client,
    Match,
    Trace,
    all_files,
    batches,
    can_hold_clients,
    erased_copy,
    others_in,
    search_text,
    sessions,
    shared,
    spellings,
    trace,
)
from boat.warehouse import Transaction, Warehouse
from boat.warehouse.duckdb import DuckDBTransaction, scratch

_RAW = tables.SCHEMA
_NOT_ERASED = f"kind <> '{tables.ERASED}'"
_SHIFT_BATCH = 500
_ELSEWHERE = "the id stands here, but not as a client's"
_UNCLEAR = "no client, in a session that other clients share"
_BY_HAND = "remove the client from it or delete it by hand, then erase again"
_NOT_LOOKED_AT = (
    "tables that have neither a column `shop` nor a column `session_key`",
    ".boat/cache: copies of snapshots; delete the folder",
    "models: they know products, not clients; training data of them is in the snapshots",
    "endpoint answers and their logs: answers hold products, not clients",
    "reports and KPI pages: they hold sums, no ids",
    "run logs of Prefect and backups that others made",
)
_NOT_LOOKED_AT_OF = {
    "duckdb": (
        "free blocks of the DuckDB file: deleted values may stay in them until they are written over; to be rid of "
        "them, copy the database (ATTACH and COPY FROM DATABASE) and delete the old file",
    ),
    "snowflake": ("Snowflake's Time Travel and Fail-safe: deleted rows stay until their retention time ends",),
}


@dataclass(frozen=True)
class Place:
    """Rows of a client in one place, before and after.

    `kind` is `file`, `old version` (what a bucket keeps of a file that was replaced), `table` or `snapshot`.
    """

    kind: str
    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Note:
    """A place that needs attention.

    Attributes:
        kind: As of `Place`.
        name: Its name; of a table with the column.
        rows: How many rows or lines; 0 if they were not counted.
        text: Why it is listed, and what to do.
    """

    kind: str
    name: str
    rows: int
    text: str


@dataclass(frozen=True)
class Searched:
    """Where the client was looked for, found or not.

    Attributes:
        landing: The landing folder.
        files: Files of it that can hold clients, old versions among them.
        other_files: Its other files: catalogues, hidden files, and those with unknown endings.
        tables: Tables that know clients, sessions or shops.
        snapshots: The folder of the snapshots.
        snapshot_names: Those in it.
    """

    landing: str
    files: int
    other_files: int
    tables: tuple[str, ...]
    snapshots: str
    snapshot_names: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What was found and what is left.

    Attributes:
        client: SHA-256 of shop and client id: it tells no one who asks "who?", and answers who asks "was it this one?".
        at: When, UTC.
        dry_run: Whether nothing was changed.
        found: Whether anything of the client was found.
        searched: Where it was looked for.
        places: Where something was found.
        growing: Files with the client in them that the collector still writes to: erase again when it has ended them.
        not_erased: Files that have the id and are not rewritten.
        not_searched: What may have the id and could not be read.
        mentions: The id where it is no client's, and rows that cannot be told to be the client's: they stay.
        linked_clients: Other client ids of the same shop with rows that name this client: their other rows stay.
        not_looked_at: What is never searched.
    """

    client: str
    at: datetime
    dry_run: bool
    found: bool
    searched: Searched
    places: tuple[Place, ...]
    growing: tuple[str, ...]
    not_erased: tuple[Note, ...]
    not_searched: tuple[Note, ...]
    mentions: tuple[Note, ...]
    linked_clients: int
    not_looked_at: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing that must go is left, and all that can hold clients was searched."""
        open_ends = (self.growing, self.not_erased, self.not_searched)
        return not any(open_ends) and all(place.after == 0 for place in self.places)

    def to_json(self) -> str:
        """For keeping; `digest` is the SHA-256 of all else, as JSON with sorted keys and no blanks."""
        content = {**asdict(self), "is_complete": self.is_complete, "at": self.at.isoformat()}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return json.dumps(content | {"digest": digest}, indent=2) + "\n"


def erase(
    warehouse: Warehouse,
    landing: Path | str,
    snapshots: Path | str,
    shop: str,
    client_id: str,
    *,
    delete_snapshots: bool = False,
    dry_run: bool = True,
) -> Proof:
    """Erase a client, and the events without a client of the sessions in which only they were seen.

    Tables made of the raw log lose the client's sessions. Build them anew afterwards (`full_refresh` of the
    ingestion): their sums still have the client in them. Snapshots do not change: they are counted, and deleted as a
    whole if asked.

    Args:
        warehouse: Where the raw log is.
        landing: The landing folder, or `s3://BUCKET/PREFIX`.
        snapshots: Folder of the snapshots, or `s3://BUCKET/PREFIX`.
        shop: The shop that knows the client by this id.
        client_id: The client; `7`, ` 7 ` and `7.0` are the same.
        delete_snapshots: Delete snapshots that hold sessions of the client.
        dry_run: Only count.

    Raises:
        DataError: The shop or the id is missing, or a file cannot be rewritten; nothing was changed.
    """
    client = Client(_identifier("shop", shop), _identifier("client id", client_id))
    with warehouse.exclusive():
        with bucket.at_hand(landing) as folder:
            client = _with_sessions(warehouse, folder, client)
            before = _look(warehouse, landing, folder, snapshots, client)
            if not dry_run:
                rewritten = _erase_rows_and_lines(warehouse, folder, client)
                if bucket.is_bucket(landing):
                    _put_back(str(landing), folder, rewritten)
        if not dry_run:
            _erase_old_versions(landing, client)
            _erase_snapshots(snapshots, before.rows, delete_snapshots)
        with bucket.at_hand(landing) as folder:
            after = before if dry_run else _look(warehouse, landing, folder, snapshots, client)
    places = tuple(
        Place(kind, client.hidden(name), before.rows[kind, name], after.rows[kind, name])
        for kind, name in sorted(before.rows.keys() | after.rows.keys())
    )
    return Proof(
        _fingerprint(client),
        datetime.now(UTC),
        dry_run,
        bool(places or before.growing or before.not_erased),
        before.searched(client, landing, snapshots),
        places,
        tuple(map(client.hidden, after.growing)),
        after.notes(client, after.not_erased),
        after.notes(client, after.not_searched),
        after.notes(client, after.mentions),
        len(before.linked),
        (*_NOT_LOOKED_AT_OF.get(warehouse.dialect, ()), *_NOT_LOOKED_AT),
    )


def _identifier(name: str, value: str) -> str:
    try:
        text = identifier(value)
    except ValueProblem as problem:
        raise DataError(f"The {name} {value!r} {problem.message}.", "Nothing was searched.") from problem
    if text is None:
        raise DataError(
            f"The {name} {value!r} is a word for a missing value, and no client has it.", "Nothing was searched."
        )
    return text


def _with_sessions(warehouse: Warehouse, landing: Path, client: Client) -> Client:
    """Add the sessions in which the client was seen, and whether alone."""
    files = [file for file in discover(landing)[0] if can_hold_clients(file)]
    condition, ids = client.has_id("client_id")
    with warehouse.transaction() as transaction:
        tables.ensure(transaction)
        seen = transaction.query(
            f"""select distinct session_id from {_RAW}.events
            where shop = ? and {condition} and session_id is not null""",
            [client.shop, *ids],
        )
    found = frozenset(seen.column(0).to_pylist())
    found = found.union(*(_readable(sessions, file, client) for file in files))
    if not found:
        return client
    found = frozenset(spelled for session_id in found for spelled in spellings(session_id))
    with warehouse.transaction() as transaction:
        others = others_in(transaction, f"{_RAW}.events", client, found)
    others = others.union(*(_readable(shared, file, client, found) for file in files))
    others = frozenset(spelled for session_id in others for spelled in spellings(session_id))
    return replace(client, sessions=found - others, shared=found & others)


def _readable(read: Callable[..., frozenset[str]], file: LandingFile, *arguments: Any) -> frozenset[str]:
    """Session ids that are read from a file; none if the file cannot be read by its ending."""
    try:
        return read(file, *arguments)
    except DataError:
        return frozenset()


def _trace(file: LandingFile, client: Client) -> Trace | None:
    """Where in a file the client is; None if the file cannot be read by its ending."""
    try:
        return trace(file, client)
    except DataError:
        return None


@dataclass
class _Findings:
    """What a look at everything found. Names are as they are; `erase` hides the id in them."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    not_erased: list[Note] = field(default_factory=list)
    not_searched: list[Note] = field(default_factory=list)
    mentions: list[Note] = field(default_factory=list)
    growing: list[str] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)
    files: int = 0
    other_files: int = 0
    tables: list[str] = field(default_factory=list)
    snapshot_names: list[str] = field(default_factory=list)

    def searched(self, client: Client, landing: Path | str, snapshots: Path | str) -> Searched:
        return Searched(
            client.hidden(str(landing)),
            self.files,
            self.other_files,
            tuple(self.tables),
            client.hidden(str(snapshots)),
            tuple(map(client.hidden, self.snapshot_names)),
        )

    def notes(self, client: Client, notes: list[Note]) -> tuple[Note, ...]:
        return tuple(replace(note, name=client.hidden(note.name)) for note in notes)

    def add_trace(self, kind: str, name: str, found: Trace) -> None:
        """Take over what a landing file, or an old version of one, holds."""
        if found.theirs:
            self.rows[kind, name] += found.theirs
        if found.kept:
            self.not_erased.append(Note(kind, name, found.kept, f"is a {found.file.kind} file: {_BY_HAND}"))
        if found.unread:
            self.not_searched.append(Note(kind, name, found.unread, "has lines that are too long and cannot be read"))
        self.mention(kind, name, found.mentions, _ELSEWHERE)
        self.mention(kind, name, found.unclear, _UNCLEAR)

    def add_text(self, kind: str, name: str, path: Path, client: Client, reason: str) -> None:
        """Search a file that is not loaded."""
        found = search_text(path, client)
        if found.obstacle:
            self.not_searched.append(Note(kind, name, 0, f"{found.obstacle} ({reason}): {_BY_HAND}"))
        elif lines := found.own + found.mentions:
            self.not_erased.append(Note(kind, name, lines, f"{reason}, and is not rewritten: {_BY_HAND}"))

    def mention(self, kind: str, name: str, rows: int, text: str) -> None:
        if rows:
            self.mentions.append(Note(kind, name, rows, text))


def _look(warehouse: Warehouse, landing: Path | str, folder: Path, snapshots: Path | str, client: Client) -> _Findings:
    found = _Findings()
    _look_at_files(found, "file", "", folder, client)
    for old in bucket.old_versions(str(landing)) if bucket.is_bucket(landing) else ():
        with bucket.fetched_old(str(landing), old) as old_folder:
            _look_at_files(found, "old version", f" {old.version}", old_folder, client)
    with warehouse.transaction() as transaction:
        _look_at_letters(found, transaction, client)
        for table, columns in _tables(transaction):
            found.tables.append(table)
            survey = _survey(transaction, table, columns, client)
            _add_survey(found, "table", table, survey)
            if table == f"{_RAW}.events":
                found.linked |= survey.linked
                unclear = sum(_count(transaction, table, *each) for each in client.without_client(client.shared))
                found.mention("table", table, unclear, _UNCLEAR)
    _look_at_snapshots(found, snapshots, client)
    return found


def _look_at_files(found: _Findings, kind: str, suffix: str, folder: Path, client: Client) -> None:
    files, others = all_files(folder)
    for file in files:
        if can_hold_clients(file):
            found.files += 1
        else:
            found.other_files += 1
        if seen := _trace(file, client):
            found.add_trace(kind, file.name + suffix, seen)
        else:
            found.add_text(kind, file.name + suffix, file.path, client, "cannot be read as its ending says")
    for path, reason in others:
        found.other_files += 1
        name = path.relative_to(folder).as_posix()
        is_growing = path.parent.name == ".open" and path.suffix == ".ndjson"
        if is_growing and (seen := _trace(LandingFile(path, name, "events", "ndjson"), client)):
            found.growing += [name + suffix] if seen.theirs else []
            found.mention(kind, name + suffix, seen.mentions, _ELSEWHERE)
        else:
            found.add_text(kind, name + suffix, path, client, reason)


def _look_at_letters(found: _Findings, transaction: Transaction, client: Client) -> None:
    table = f"{_RAW}.dead_letters"
    found.tables.append(table)
    letters = _letters(transaction, client)
    if own := sum(match is Match.OWN for _letter, match in letters):
        found.rows["table", table] = own
    found.mention("table", table, len(letters) - own, _ELSEWHERE)


def _look_at_snapshots(found: _Findings, snapshots: Path | str, client: Client) -> None:
    for name in _snapshot_names(snapshots):
        found.snapshot_names.append(name)
        with _snapshot(snapshots, name) as folder:
            files = [str(path) for path in (folder / "recommend.parquet", folder / "intent.parquet") if path.is_file()]
            try:
                for survey in (_survey_files(files, client),) if files else ():
                    _add_survey(found, "snapshot", name, survey)
            except duckdb.Error:
                found.not_searched.append(Note("snapshot", name, 0, "cannot be read: delete it"))
    for folder in sorted(Path(snapshots).glob("*/")) if not bucket.is_bucket(snapshots) else ():
        if folder.name not in found.snapshot_names and any(folder.glob("*.parquet")):
            found.not_searched.append(
                Note("snapshot", folder.name, 0, "has no manifest, so it is no snapshot: delete it")
            )


def _survey_files(files: Sequence[str], client: Client) -> "_Survey":
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    relation = f"read_parquet([{paths}], union_by_name = true)"
    with scratch() as local:
        described = local.query(f"describe from {relation}").to_pylist()
        columns = {row["column_name"]: row["column_type"].lower() for row in described}
        return _survey(local, relation, columns, client)


def _add_survey(found: _Findings, kind: str, name: str, survey: "_Survey") -> None:
    if survey.rows:
        found.rows[kind, name] += survey.rows
    for column, rows in sorted(survey.mentions.items()):
        found.mention(kind, f"{name}.{column}", rows, _ELSEWHERE)


def _traces(landing: Path, client: Client) -> Iterator[Trace]:
    for file in discover(landing)[0]:
        if can_hold_clients(file) and (found := _trace(file, client)) and found.theirs:
            yield found


def _old_traces(landing: Path | str, client: Client) -> Iterator[bucket.OldVersion]:
    """Old versions that a bucket keeps of landing files, with rows of the client."""
    for old in bucket.old_versions(str(landing)) if bucket.is_bucket(landing) else ():
        with bucket.fetched_old(str(landing), old) as folder:
            if any(_traces(folder, client)):
                yield old


def _put_back(landing: str, folder: Path, rewritten: Sequence[str]) -> None:
    for name in rewritten:
        bucket.put(landing, name, folder / name)


def _erase_old_versions(landing: Path | str, client: Client) -> None:
    for old in tuple(_old_traces(landing, client)):
        bucket.remove_old(str(landing), old)


def _erase_rows_and_lines(warehouse: Warehouse, landing: Path, client: Client) -> tuple[str, ...]:
    """Returns the names of the files that were written anew."""
    for path in landing.rglob(f"{COPY_PREFIX}*"):  # of a run that was stopped
        path.unlink()
    found = tuple(_traces(landing, client))
    copies = [erased_copy(one, client) for one in found]
    with warehouse.transaction() as transaction:
        transaction.lock()
        loads = set()
        for (load_id, source_file, source_line), match in _letters(transaction, client):
            if match is Match.OWN:
                loads.add(load_id)
                transaction.execute(
                    f"delete from {_RAW}.dead_letters where load_id = ? and source_file = ? and source_line = ?",
                    [load_id, source_file, source_line],
                )
        for table, columns in _tables(transaction):
            conditions = _survey(transaction, table, columns, client).conditions
            if table == f"{_RAW}.events":
                loads |= _touched_loads(transaction, conditions)
            for condition, parameters in conditions:
                transaction.execute(f"delete from {table} where {condition}", parameters)
        rewritten = {
            load_id
            for one, (_copy, content) in zip(found, copies, strict=True)
            for load_id in _know_as_erased(transaction, one, content)
        }
        for load_id in loads | rewritten:
            _count_again(transaction, load_id, load_id in rewritten)
    for one, (copy, _content) in zip(found, copies, strict=True):
        shutil.copymode(one.file.path, copy)
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(copy, one.file.path)
    return tuple(one.file.name for one in found)


def _know_as_erased(transaction: Transaction, found: Trace, content: str) -> set[str]:
    """Give the ledger's row of a file its new digest, and keep the old one as erased; returns its load."""
    old = digest(found.file)
    known = transaction.query(f"select load_id from {_RAW}.loads where digest = ? and {_NOT_ERASED}", [old]).to_pylist()
    for row in known:
        load_id = row["load_id"]
        transaction.execute(
            f"""insert into {_RAW}.loads select load_id, source_file, digest, '{tables.ERASED}', 0, 0, 0, 0, loaded_at
            from {_RAW}.loads where digest = ?""",
            [old],
        )
        transaction.execute(
            f"update {_RAW}.loads set digest = ?, received = received - ? where digest = ? and {_NOT_ERASED}",
            [content, found.theirs - found.unused, old],
        )
        letters = sorted(found.lines)
        for lines in (letters[start : start + _SHIFT_BATCH] for start in range(0, len(letters), _SHIFT_BATCH)):
            transaction.execute(
                f"delete from {_RAW}.dead_letters where load_id = ? and source_line in ({', '.join(map(str, lines))})",
                [load_id],
            )
        if found.file.format == "parquet":
            _move_up(transaction, load_id, letters)
    return {row["load_id"] for row in known}


def _move_up(transaction: Transaction, load_id: str, removed: Sequence[int]) -> None:
    """Rows of Parquet after the removed ones have other numbers now."""
    for end in range(len(removed), 0, -_SHIFT_BATCH):  # the last first: those before keep their numbers meanwhile
        lines = removed[max(0, end - _SHIFT_BATCH) : end]
        before = " + ".join(f"(case when source_line > {line} then 1 else 0 end)" for line in lines)
        for table in ("events", "dead_letters"):
            transaction.execute(
                f"update {_RAW}.{table} set source_line = source_line - ({before}) where load_id = ?", [load_id]
            )


def _touched_loads(transaction: Transaction, conditions: Sequence[tuple[str, list[str]]]) -> set[str]:
    """Loads that lose events, whether or not their files are still there."""
    loads: set[str] = set()
    for condition, parameters in conditions:
        found = transaction.query(f"select distinct load_id from {_RAW}.events where {condition}", parameters)
        loads |= set(found.column(0).to_pylist())
    return loads


def _count_again(transaction: Transaction, load_id: str, is_rewritten: bool) -> None:
    """Let the ledger say what is there: `received = accepted + duplicate + failed` holds after as before."""
    accepted, failed = (
        transaction.query(f"select count(*) as n from {_RAW}.{table} where load_id = ?", [load_id])["n"][0].as_py()
        for table in ("events", "dead_letters")
    )
    # A file that was not rewritten is gone: what it held twice is as it was.
    rest = "duplicate = received - ? - ?" if is_rewritten else "received = duplicate + ? + ?"
    transaction.execute(
        f"update {_RAW}.loads set accepted = ?, failed = ?, {rest} where load_id = ? and {_NOT_ERASED}",
        [accepted, failed, accepted, failed, load_id],
    )


def _letters(transaction: Transaction, client: Client) -> list[tuple[tuple[str, str, int], Match]]:
    """Load, file and line of the dead letters that have the client's id, and how."""
    found = transaction.query(
        f"""select load_id, source_file, source_line, payload, message from {_RAW}.dead_letters
        where {client.may_be_in("payload")} or {client.may_be_in("message")}"""
    ).to_pylist()
    letters = [
        (
            (row["load_id"], row["source_file"], row["source_line"]),
            max(client.match_in_failed(row["payload"] or ""), client.match(row["message"] or "")),
        )
        for row in found
    ]
    return [(letter, match) for letter, match in letters if match is not Match.NONE]


def _tables(transaction: Transaction) -> Iterator[tuple[str, dict[str, str]]]:
    """Tables that know clients, sessions or shops, the raw log first, with the types of their columns by name."""
    columns = transaction.query(
        """select lower(c.table_schema) as schema_name, lower(c.table_name) as table_name,
            c.column_name as column_name, lower(c.data_type) as data_type
        from information_schema.columns as c
        join information_schema.tables as t on t.table_schema = c.table_schema and t.table_name = c.table_name
        where t.table_type = 'BASE TABLE' and lower(c.table_schema) <> 'information_schema'"""
    ).to_pylist()
    known: dict[str, dict[str, str]] = {}
    for row in columns:
        known.setdefault(f"{row['schema_name']}.{row['table_name']}", {})[row["column_name"]] = row["data_type"]
    events = f"{_RAW}.events"
    for table, types in sorted(known.items(), key=lambda item: (item[0] != events, item[0])):
        if {"shop", "session_key"} & set(map(str.lower, types)):
            yield table, types


@dataclass(frozen=True)
class _Survey:
    """A client's rows in a table.

    Attributes:
        conditions: SQL conditions of the rows that go, with parameters. A row may meet more than one.
        rows: How many they are.
        mentions: Other rows with the id, by column.
        linked: Other client ids of rows that go.
    """

    conditions: tuple[tuple[str, list[str]], ...]
    rows: int
    mentions: Mapping[str, int]
    linked: frozenset[str]


def _survey(
    transaction: Transaction | DuckDBTransaction, relation: str, types: Mapping[str, str], client: Client
) -> _Survey:
    """Find the rows of a client in a table or in Parquet files.

    Args:
        session: Where to ask.
        relation: What to select from.
        types: Types of its columns by their names as the database has them.
        client: The client.
    """
    names = {name.lower(): name for name in types}
    of_shop, shop = ("shop = ?", [client.shop]) if "shop" in names else _of_shop(client)
    by_client, ids = _by_client(names, client)
    others = f"not coalesce({by_client}, false)"
    by_session = list(_by_session(names, client))
    conditions = [(f"{of_shop} and {by_client}", [*shop, *ids])]
    conditions += [(f"{condition} and {others}", [*parameters, *ids]) for condition, parameters in by_session]
    rows = sum(_count(transaction, relation, *condition) for condition in conditions)
    texts = [name for name, data_type in types.items() if _is_searched(name, data_type)]
    values: dict[str, set[str]] = {}
    mentions: Counter[str] = Counter()
    linked = set()
    is_of_session = _session_check(client)
    for row in _candidates(transaction, relation, names, texts, client):
        if is_of_session(row):
            continue
        found = {name: _match(name, row[name.lower()], client) for name in texts}
        if Match.OWN not in found.values():
            mentions.update({name.lower(): row["n"] for name, match in found.items() if match is Match.MENTION})
            continue
        rows += row["n"]
        linked |= {row["client_id"]} if row.get("client_id") else set()
        for name, match in found.items():
            if match is Match.OWN:
                values.setdefault(name, set()).add(row[name.lower()])
    for name, own in sorted(values.items()):
        for some in batches(sorted(own)):
            conditions.append((f'{of_shop} and "{name}" in ({", ".join("?" * len(some))})', [*shop, *some]))
    return _Survey(tuple(conditions), rows, mentions, frozenset(linked))


def _of_shop(client: Client) -> tuple[str, list[str]]:
    """Condition of the rows of the client's shop in a table that knows it from the session's key alone."""
    prefixes = [f"{part}:" for part in _key_parts(client.shop)]
    return f"({' or '.join(f'left(session_key, {len(one)}) = ?' for one in prefixes)})", prefixes


def _by_client(names: Mapping[str, str], client: Client) -> tuple[str, list[str]]:
    """Condition of the rows that have the id in a column of clients."""
    found = [client.has_id(f'"{name}"') for name in names.values() if plain_name(name) in CLIENT_NAMES]
    return (
        f"({' or '.join(condition for condition, _ids in found) or '1 = 0'})",
        [one for _condition, ids in found for one in ids],
    )


def _by_session(names: Mapping[str, str], client: Client) -> Iterator[tuple[str, list[str]]]:
    """Conditions of the rows of the client's sessions. No row meets two of them."""
    if "session_key" in names:
        for cut, not_cut in _cut_prefixes(client):
            yield f"left(session_key, {len(cut)}) = ? and left(session_key, {len(not_cut)}) <> ?", [cut, not_cut]
        for keys in batches(sorted(_given_keys(client))):
            yield f"session_key in ({', '.join('?' * len(keys))})", list(keys)
    elif {"shop", "client_id", "session_id"} <= names.keys():
        yield from client.without_client(client.sessions)


def _session_check(client: Client) -> Callable[[Mapping[str, Any]], bool]:
    """The same as a function of a row."""
    cuts, keys = tuple(_cut_prefixes(client)), _given_keys(client)

    def is_of_session(row: Mapping[str, Any]) -> bool:
        if (key := row.get("session_key")) is not None:
            return key in keys or any(key.startswith(cut) and not key.startswith(other) for cut, other in cuts)
        return row.get("client_id", "") is None and row.get("session_id") in client.sessions

    return is_of_session


def _key_parts(text: str) -> tuple[str, ...]:
    """An id as a part of session keys: as dbt's `key_part` writes it, and as earlier versions did."""
    parts = {part for one in spellings(text) for part in (one, one.replace("%", "%25").replace(":", "%3A"))}
    return tuple(sorted(parts))


def _cut_prefixes(client: Client) -> Iterator[tuple[str, str]]:
    """How keys of sessions begin that were cut from the client's events, and of others that begin the same."""
    for shop in _key_parts(client.shop):
        for client_id in _key_parts(client.client_id):
            cut = f"{shop}:{client_id}:"
            yield cut, f"{cut}client:"  # parts of a session of this id


def _given_keys(client: Client) -> set[str]:
    """Keys of the sessions that have an id."""
    shops, clients = _key_parts(client.shop), _key_parts(client.client_id)
    own = {f"{shop}:{part}" for one in client.sessions for part in _key_parts(one) for shop in shops}
    return own | {
        f"{shop}:{part}:client:{client_id}"
        for one in client.shared
        for part in _key_parts(one)
        for shop in shops
        for client_id in clients
    }


def _is_searched(name: str, data_type: str) -> bool:
    """Whether a column is searched for the id beside the columns of clients and sessions."""
    is_text = data_type in {"varchar", "text"}
    return is_text and plain_name(name) not in {
        *CLIENT_NAMES,
        *map(plain_name, ("shop", "session_key", "load_id", "event_type")),
    }


def _is_id(name: str) -> bool:
    """Whether values of a column are compared as a whole."""
    return name.lower().endswith("_id")


def _match(name: str, value: str | None, client: Client) -> Match:
    if value is None:
        return Match.NONE
    if _is_id(name):
        return Match.MENTION if value.strip() in client.ids else Match.NONE
    return client.match(value, name)


def _candidates(
    transaction: Transaction | DuckDBTransaction,
    relation: str,
    names: Mapping[str, str],
    texts: Sequence[str],
    client: Client,
) -> list[dict[str, Any]]:
    """Groups of equal rows (`n`) that may have the id in a text, without those that have it as the client's."""
    if not texts:
        return []
    of_shop, parameters = ("shop = ?", [client.shop]) if "shop" in names else _of_shop(client)
    by_client, ids = _by_client(names, client)
    parameters = [*parameters, *ids]
    wanted = []
    for name in texts:
        condition, some = client.has_id(f'"{name}"') if _is_id(name) else (client.may_be_in(f'"{name}"'), [])
        wanted.append(condition)
        parameters += some
    keys = [names[key] for key in ("client_id", "session_id", "session_key") if key in names]
    columns = [f'"{name}"' for name in dict.fromkeys([*keys, *texts])]
    found: list[dict[str, Any]] = transaction.query(
        f"""select {", ".join(columns)}, count(*) as n from {relation}
        where {of_shop} and not coalesce({by_client}, false) and ({" or ".join(wanted)})
        group by {", ".join(columns)}""",
        parameters,
    ).to_pylist()
    return found


def _count(transaction: Transaction | DuckDBTransaction, table: str, condition: str, parameters: list[str]) -> int:
    rows: int = transaction.query(f"select count(*) as n from {table} where {condition}", parameters)["n"][0].as_py()
    return rows


def _snapshot_names(snapshots: Path | str) -> list[str]:
    if bucket.is_bucket(snapshots):
        found = {name.partition("/")[0] for name in bucket.names(str(snapshots)) if name.count("/") == 1}
        return sorted(found)
    return sorted(manifest.parent.name for manifest in Path(snapshots).glob("*/manifest.json"))


@contextmanager
def _snapshot(snapshots: Path | str, name: str) -> Iterator[Path]:
    """A folder with a snapshot as long as it is needed."""
    if not bucket.is_bucket(snapshots):
        yield Path(snapshots) / name
        return
    with bucket.at_hand(f"{str(snapshots).rstrip('/')}/{name}") as folder:
        yield folder


def _erase_snapshots(snapshots: Path | str, found: dict[tuple[str, str], int], delete: bool) -> None:
    for kind, name in found if delete else ():
        if kind == "snapshot" and bucket.is_bucket(snapshots):
            bucket.remove_all(f"{str(snapshots).rstrip('/')}/{name}")
        elif kind == "snapshot":
            shutil.rmtree(Path(snapshots) / name)


def _fingerprint(client: Client) -> str:
    return hashlib.sha256(json.dumps([client.shop, client.client_id]).encode()).hexdigest()
