"""Erase one client everywhere: landing files, raw log, dead letters, later tables, and snapshots.

It is a command and not a flow, because a flow run stores its parameters, and the client's id would be one. A dry run
counts.

A row is erased if it has the client's id as a whole value in `client_id` or in another client field or URL parameter
(`boat.raw_log.traces.CLIENT_NAMES`), or if it has no client and its session belongs to this client alone. The same id
elsewhere, such as a product `7` or a search for "7", is counted and stays.

Rewritten copies of the files are written first. One transaction then deletes the rows and stores the new digests in
the ledger. Then the copies replace the files, in a bucket too, and old versions in a bucket are removed last. If the
command stops in between, the ledger has the old files as erased and does not load them again: erase again to finish.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boat.errors import DataError
from boat.events import ValueProblem, identifier
from boat.landing import bucket
from boat.landing.discovery import discover
from boat.landing.files import LandingFile, digest
from boat.raw_log import tables
from boat.raw_log.findings import client_letters, search_everywhere, trace_if_readable
from boat.raw_log.proof import NOT_LOOKED_AT, NOT_LOOKED_AT_OF, Location, Proof, fingerprint
from boat.raw_log.survey import client_tables, find_rows
from boat.raw_log.traces import (
    COPY_PREFIX,
    Client,
    Match,
    Trace,
    can_hold_clients,
    erased_copy,
    sessions,
    shared,
    shared_in,
    spellings,
)
from boat.warehouse import Transaction, Warehouse

_RAW = tables.SCHEMA
_NOT_ERASED = f"kind <> '{tables.ERASED}'"
_SHIFT_BATCH = 500


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
    """Erase a client, and events without a client of sessions that belong to this client alone.

    Later tables lose the client's sessions. Their totals still count the client, so rebuild them afterwards
    (`full_refresh` of `ingestion`). Snapshots are not changed: they are counted, and deleted if requested.

    Args:
        warehouse: Warehouse with the raw log.
        landing: Landing folder, or `s3://BUCKET/PREFIX`.
        snapshots: Folder of the snapshots, or `s3://BUCKET/PREFIX`.
        shop: Shop of the client.
        client_id: Id of the client; `7`, ` 7 ` and `7.0` are the same.
        delete_snapshots: Whether to delete snapshots with sessions of the client.
        dry_run: Whether to count only.

    Raises:
        DataError: The shop or the id is missing, or a file cannot be rewritten. Nothing was changed.
    """
    client = Client(_identifier("shop", shop), _identifier("client id", client_id))
    with warehouse.exclusive():
        with bucket.at_hand(landing) as folder:
            client = _with_sessions(warehouse, folder, client)
            before = search_everywhere(warehouse, landing, folder, snapshots, client)
            if not dry_run:
                rewritten = _erase_rows_and_lines(warehouse, folder, client)
                if bucket.is_bucket(landing):
                    _upload(str(landing), folder, rewritten)
                warehouse.renew_copies()
        if not dry_run:
            _erase_old_versions(landing, client)
            _erase_snapshots(snapshots, before.rows, delete_snapshots)
        with bucket.at_hand(landing) as folder:
            after = before if dry_run else search_everywhere(warehouse, landing, folder, snapshots, client)
    places = tuple(
        Location(kind, client.hidden(name), before.rows[kind, name], after.rows[kind, name])
        for kind, name in sorted(before.rows.keys() | after.rows.keys())
    )
    return Proof(
        fingerprint(client),
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
        (*NOT_LOOKED_AT_OF.get(warehouse.dialect, ()), *NOT_LOOKED_AT),
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
    """Return the client with its sessions, and with the sessions that other clients share."""
    files = [file for file in discover(landing)[0] if can_hold_clients(file)]
    condition, ids = client.has_id("client_id")
    with warehouse.transaction() as transaction:
        tables.ensure(transaction)
        ids_of_sessions = transaction.query(
            f"""select distinct session_id from {_RAW}.events
            where shop = ? and {condition} and session_id is not null""",
            [client.shop, *ids],
        )
    own = frozenset(ids_of_sessions.column(0).to_pylist())
    own = own.union(*(_if_readable(sessions, file, client) for file in files))
    if not own:
        return client
    own = _all_spellings(own)
    with warehouse.transaction() as transaction:
        of_others = shared_in(transaction, f"{_RAW}.events", client, own)
    of_others = of_others.union(*(_if_readable(shared, file, client, own) for file in files))
    of_others = _all_spellings(of_others)
    return replace(client, sessions=own - of_others, shared=own & of_others)


def _all_spellings(session_ids: frozenset[str]) -> frozenset[str]:
    return frozenset(spelling for session_id in session_ids for spelling in spellings(session_id))


def _if_readable(read: Callable[..., frozenset[str]], file: LandingFile, *arguments: Any) -> frozenset[str]:
    """Read session ids from a file; return an empty set if its content does not fit its file type."""
    try:
        return read(file, *arguments)
    except DataError:
        return frozenset()


def _traces(landing: Path, client: Client) -> Iterator[Trace]:
    for file in discover(landing)[0]:
        if can_hold_clients(file) and (rows := trace_if_readable(file, client)) and rows.theirs:
            yield rows


def _old_traces(landing: Path | str, client: Client) -> Iterator[bucket.OldVersion]:
    """Yield old versions of landing files in a bucket that contain rows of the client."""
    for old in bucket.old_versions(str(landing)) if bucket.is_bucket(landing) else ():
        with bucket.fetched_old(str(landing), old) as folder:
            if any(_traces(folder, client)):
                yield old


def _upload(landing: str, folder: Path, rewritten: Sequence[str]) -> None:
    for name in rewritten:
        bucket.put(landing, name, folder / name)


def _erase_old_versions(landing: Path | str, client: Client) -> None:
    for old in tuple(_old_traces(landing, client)):
        bucket.remove_old(str(landing), old)


def _erase_rows_and_lines(warehouse: Warehouse, landing: Path, client: Client) -> tuple[str, ...]:
    """Erase rows of tables and lines of files; return the names of rewritten files."""
    for path in landing.rglob(f"{COPY_PREFIX}*"):  # copies of a run that was stopped
        path.unlink()
    traces = tuple(_traces(landing, client))
    copies = [erased_copy(trace, client) for trace in traces]
    with warehouse.transaction() as transaction:
        transaction.lock()
        loads = set()
        for (load_id, source_file, source_line), match in client_letters(transaction, client):
            if match is Match.OWN:
                loads.add(load_id)
                transaction.execute(
                    f"delete from {_RAW}.dead_letters where load_id = ? and source_file = ? and source_line = ?",
                    [load_id, source_file, source_line],
                )
        for table, columns in client_tables(transaction):
            conditions = find_rows(transaction, table, columns, client).conditions
            if table == f"{_RAW}.events":
                loads |= _touched_loads(transaction, conditions)
            for condition, parameters in conditions:
                transaction.execute(f"delete from {table} where {condition}", parameters)
        rewritten = {
            load_id
            for trace, (_copy, content) in zip(traces, copies, strict=True)
            for load_id in _mark_as_erased(transaction, trace, content)
        }
        for load_id in loads | rewritten:
            _count_again(transaction, load_id, load_id in rewritten)
    for trace, (copy, _content) in zip(traces, copies, strict=True):
        shutil.copymode(trace.file.path, copy)
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(copy, trace.file.path)
    return tuple(trace.file.name for trace in traces)


def _mark_as_erased(transaction: Transaction, trace: Trace, content: str) -> set[str]:
    """Store the new digest of a file in the ledger, and its old digest as erased; return its loads."""
    old = digest(trace.file)
    loads = transaction.query(f"select load_id from {_RAW}.loads where digest = ? and {_NOT_ERASED}", [old]).to_pylist()
    for row in loads:
        load_id = row["load_id"]
        transaction.execute(
            f"""insert into {_RAW}.loads select load_id, source_file, digest, '{tables.ERASED}', 0, 0, 0, 0, loaded_at
            from {_RAW}.loads where digest = ?""",
            [old],
        )
        transaction.execute(
            f"update {_RAW}.loads set digest = ?, received = received - ? where digest = ? and {_NOT_ERASED}",
            [content, trace.theirs - trace.unused, old],
        )
        letters = sorted(trace.lines)
        for lines in (letters[start : start + _SHIFT_BATCH] for start in range(0, len(letters), _SHIFT_BATCH)):
            transaction.execute(
                f"delete from {_RAW}.dead_letters where load_id = ? and source_line in ({', '.join(map(str, lines))})",
                [load_id],
            )
        if trace.file.format == "parquet":
            _renumber(transaction, load_id, letters)
    return {row["load_id"] for row in loads}


def _renumber(transaction: Transaction, load_id: str, removed: Sequence[int]) -> None:
    """Renumber the rows of a Parquet file after rows were removed."""
    for end in range(len(removed), 0, -_SHIFT_BATCH):  # from the end, so that rows before keep their numbers
        lines = removed[max(0, end - _SHIFT_BATCH) : end]
        before = " + ".join(f"(case when source_line > {line} then 1 else 0 end)" for line in lines)
        for table in ("events", "dead_letters"):
            transaction.execute(
                f"update {_RAW}.{table} set source_line = source_line - ({before}) where load_id = ?", [load_id]
            )


def _touched_loads(transaction: Transaction, conditions: Sequence[tuple[str, list[str]]]) -> set[str]:
    """Return the loads that lose events, also if their files do not exist any more."""
    loads: set[str] = set()
    for condition, parameters in conditions:
        ids = transaction.query(f"select distinct load_id from {_RAW}.events where {condition}", parameters)
        loads |= set(ids.column(0).to_pylist())
    return loads


def _count_again(transaction: Transaction, load_id: str, is_rewritten: bool) -> None:
    """Count the rows of a load again, so that `received = accepted + duplicate + failed` stays true."""
    accepted, failed = (
        transaction.query(f"select count(*) as n from {_RAW}.{table} where load_id = ?", [load_id])["n"][0].as_py()
        for table in ("events", "dead_letters")
    )
    # If the file does not exist any more, its number of duplicates is unchanged.
    rest = "duplicate = received - ? - ?" if is_rewritten else "received = duplicate + ? + ?"
    transaction.execute(
        f"update {_RAW}.loads set accepted = ?, failed = ?, {rest} where load_id = ? and {_NOT_ERASED}",
        [accepted, failed, accepted, failed, load_id],
    )


def _erase_snapshots(snapshots: Path | str, rows: dict[tuple[str, str], int], delete: bool) -> None:
    for kind, name in rows if delete else ():
        if kind == "snapshot" and bucket.is_bucket(snapshots):
            bucket.remove_all(f"{str(snapshots).rstrip('/')}/{name}")
        elif kind == "snapshot":
            shutil.rmtree(Path(snapshots) / name)
