"""Erasing one client everywhere: landing files, raw log, dead letters, tables made of them, and snapshots.

It is a command and no flow: a flow run keeps its parameters, and the client's id would be one. A dry run counts.

Files are rewritten beside themselves first. Then rows go and the ledger learns the new digests, in one transaction, and
the files take their places, in a bucket too; what a bucket keeps of them goes last. Stopped in between, the old files
are known as erased and are not loaded again: erase again to finish.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from boat import raw_log
from boat.landing import bucket
from boat.landing.files import digest, discover
from boat.landing.traces import Client, Trace, batches, can_hold_clients, erased_copy, sessions, trace
from boat.warehouse import Session, Warehouse
from boat.warehouse.duckdb import scratch

_RAW = raw_log.SCHEMA
_NOT_ERASED = f"kind <> '{raw_log.ERASED}'"
_SHIFT_BATCH = 500


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
class Searched:
    """Where the client was looked for, found or not.

    Attributes:
        landing: The landing folder.
        files: Files of it that can hold clients, old versions among them.
        tables: Tables that know clients or sessions.
        snapshots: The folder of the snapshots.
        snapshot_names: Those in it.
    """

    landing: str
    files: int
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
        searched: Where it was looked for.
        places: Where something was found.
        growing: Files with the client in them that the collector still writes to: erase again when it has ended them.
    """

    client: str
    at: datetime
    dry_run: bool
    searched: Searched
    places: tuple[Place, ...]
    growing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.growing and all(place.after == 0 for place in self.places)

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
    """Erase a client, and the events without a client of the sessions in which they were seen.

    Tables made of the raw log lose the client's sessions. Build them anew afterwards (`full_refresh` of the
    ingestion): their sums still have the client in them. Snapshots do not change: they are counted, and deleted as a
    whole if asked.

    Args:
        warehouse: Where the raw log is.
        landing: The landing folder, or `s3://BUCKET/PREFIX`.
        snapshots: Folder of the snapshots, or `s3://BUCKET/PREFIX`.
        shop: The shop that knows the client by this id.
        client_id: The client.
        delete_snapshots: Delete snapshots that hold sessions of the client.
        dry_run: Only count.

    Raises:
        DataError: A file cannot be rewritten; nothing was changed.
    """
    with warehouse.exclusive():
        with bucket.at_hand(landing) as folder:
            client = _with_sessions(warehouse, folder, Client(shop, client_id))
            before, searched = _look(warehouse, landing, folder, snapshots, client)
            if not dry_run:
                rewritten = _erase_rows_and_lines(warehouse, folder, client)
                if bucket.is_bucket(landing):
                    _put_back(str(landing), folder, rewritten)
        if not dry_run:
            _erase_old_versions(landing, client)
            _erase_snapshots(snapshots, before, delete_snapshots)
        with bucket.at_hand(landing) as folder:
            after = before if dry_run else _look(warehouse, landing, folder, snapshots, client)[0]
            growing = tuple(_growing(folder, client))
    places = tuple(
        Place(*place, before.get(place, 0), after.get(place, 0)) for place in sorted(before.keys() | after.keys())
    )
    return Proof(_fingerprint(client), datetime.now(UTC), dry_run, searched, places, growing)


def _with_sessions(warehouse: Warehouse, landing: Path, client: Client) -> Client:
    with warehouse.session() as session:
        raw_log.ensure(session)
        seen = session.query(
            f"""select distinct session_id from {_RAW}.events
            where shop = ? and client_id = ? and session_id is not null""",
            [client.shop, client.client_id],
        )
    found = set(seen.column(0).to_pylist())
    for file in discover(landing)[0]:
        if can_hold_clients(file):
            found |= sessions(file, client)
    return replace(client, sessions=frozenset(found))


def _look(
    warehouse: Warehouse, landing: Path | str, folder: Path, snapshots: Path | str, client: Client
) -> tuple[dict[tuple[str, str], int], Searched]:
    """Kind and name of each place that has rows of the client, with their number, and where that was looked for."""
    found: dict[tuple[str, str], int] = {("file", trace.file.name): trace.theirs for trace in _traces(folder, client)}
    old = _old_traces(landing, client)
    found |= {("old version", f"{each.name} {each.version}"): rows for each, rows in old.items()}
    with warehouse.session() as session:
        found["table", f"{_RAW}.dead_letters"] = len(_letters(session, client))
        for table, conditions in _tables(session, client):
            found["table", table] = sum(_count(session, table, *condition) for condition in conditions)
    for name in _snapshot_names(snapshots):
        with _snapshot(snapshots, name) as taken:
            found["snapshot", name] = _rows_in_snapshot(taken, client)
    searched = Searched(
        landing=str(landing),
        files=sum(map(can_hold_clients, discover(folder)[0])) + len(old),
        tables=tuple(name for kind, name in found if kind == "table"),
        snapshots=str(snapshots),
        snapshot_names=tuple(name for kind, name in found if kind == "snapshot"),
    )
    return {place: rows for place, rows in found.items() if rows}, searched


def _traces(landing: Path, client: Client) -> Iterator[Trace]:
    for file in discover(landing)[0]:
        if can_hold_clients(file) and (found := trace(file, client)).theirs:
            yield found


def _old_traces(landing: Path | str, client: Client) -> dict[bucket.OldVersion, int]:
    """Rows of the client in each old version that a bucket keeps of a landing file."""
    found = {}
    for old in bucket.old_versions(str(landing)) if bucket.is_bucket(landing) else ():
        with bucket.fetched_old(str(landing), old) as folder:
            if any(map(can_hold_clients, discover(folder)[0])):
                found[old] = sum(trace.theirs for trace in _traces(folder, client))
    return found


def _put_back(landing: str, folder: Path, rewritten: Sequence[str]) -> None:
    for name in rewritten:
        bucket.put(landing, name, folder / name)


def _erase_old_versions(landing: Path | str, client: Client) -> None:
    for old, rows in _old_traces(landing, client).items():
        if rows:
            bucket.remove_old(str(landing), old)


def _erase_rows_and_lines(warehouse: Warehouse, landing: Path, client: Client) -> tuple[str, ...]:
    """Returns the names of the files that were written anew."""
    found = tuple(_traces(landing, client))
    copies = [erased_copy(one, client) for one in found]
    with warehouse.session() as session:
        session.take_turn()
        loads = _touched_loads(session, client)
        for load_id, source_file, source_line in _letters(session, client):
            session.execute(
                f"delete from {_RAW}.dead_letters where load_id = ? and source_file = ? and source_line = ?",
                [load_id, source_file, source_line],
            )
        for table, conditions in _tables(session, client):
            for condition, parameters in conditions:
                session.execute(f"delete from {table} where {condition}", parameters)
        rewritten = {
            load_id
            for one, (_copy, content) in zip(found, copies, strict=True)
            for load_id in _know_as_erased(session, one, content)
        }
        for load_id in loads | rewritten:
            _count_again(session, load_id, load_id in rewritten)
    for one, (copy, _content) in zip(found, copies, strict=True):
        shutil.copymode(one.file.path, copy)
        with copy.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(copy, one.file.path)
    return tuple(one.file.name for one in found)


def _know_as_erased(session: Session, found: Trace, content: str) -> set[str]:
    """Give the ledger's row of a file its new digest, and keep the old one as erased; returns its load."""
    old = digest(found.file)
    known = session.query(f"select load_id from {_RAW}.loads where digest = ? and {_NOT_ERASED}", [old]).to_pylist()
    for row in known:
        load_id = row["load_id"]
        session.execute(
            f"""insert into {_RAW}.loads select load_id, source_file, digest, '{raw_log.ERASED}', 0, 0, 0, 0, loaded_at
            from {_RAW}.loads where digest = ?""",
            [old],
        )
        session.execute(
            f"update {_RAW}.loads set digest = ?, received = received - ? where digest = ? and {_NOT_ERASED}",
            [content, found.theirs, old],
        )
        letters = sorted(found.lines)
        for lines in (letters[start : start + _SHIFT_BATCH] for start in range(0, len(letters), _SHIFT_BATCH)):
            session.execute(
                f"delete from {_RAW}.dead_letters where load_id = ? and source_line in ({', '.join(map(str, lines))})",
                [load_id],
            )
        if found.file.format == "parquet":
            _move_up(session, load_id, letters)
    return {row["load_id"] for row in known}


def _move_up(session: Session, load_id: str, removed: Sequence[int]) -> None:
    """Rows of Parquet after the removed ones have other numbers now."""
    for end in range(len(removed), 0, -_SHIFT_BATCH):  # the last first: those before keep their numbers meanwhile
        lines = removed[max(0, end - _SHIFT_BATCH) : end]
        before = " + ".join(f"(case when source_line > {line} then 1 else 0 end)" for line in lines)
        for table in ("events", "dead_letters"):
            session.execute(
                f"update {_RAW}.{table} set source_line = source_line - ({before}) where load_id = ?", [load_id]
            )


def _touched_loads(session: Session, client: Client) -> set[str]:
    """Loads that lose rows, whether or not their files are still there."""
    loads = {load_id for load_id, *_ in _letters(session, client)}
    for condition, parameters in client.conditions():
        found = session.query(f"select distinct load_id from {_RAW}.events where {condition}", parameters)
        loads |= set(found.column(0).to_pylist())
    return loads


def _count_again(session: Session, load_id: str, is_rewritten: bool) -> None:
    """Let the ledger say what is there: `received = accepted + duplicate + failed` holds after as before."""
    accepted, failed = (
        session.query(f"select count(*) as n from {_RAW}.{table} where load_id = ?", [load_id])["n"][0].as_py()
        for table in ("events", "dead_letters")
    )
    # A file that was not rewritten is gone: what it held twice is as it was.
    rest = "duplicate = received - ? - ?" if is_rewritten else "received = duplicate + ? + ?"
    session.execute(
        f"update {_RAW}.loads set accepted = ?, failed = ?, {rest} where load_id = ? and {_NOT_ERASED}",
        [accepted, failed, accepted, failed, load_id],
    )


def _letters(session: Session, client: Client) -> list[tuple[str, str, int]]:
    """Load, file and line of the dead letters that name the client."""
    spelled = " or ".join(["position(? in payload) > 0"] * len(client.spellings))
    found = session.query(
        f"select load_id, source_file, source_line, payload from {_RAW}.dead_letters where {spelled}",
        client.spellings,
    ).to_pylist()
    return [
        (row["load_id"], row["source_file"], row["source_line"]) for row in found if client.is_named_in(row["payload"])
    ]


def _tables(session: Session, client: Client) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Tables that know clients or sessions, the raw log first, with the conditions of the client's rows."""
    yield f"{_RAW}.events", list(client.conditions())
    columns = session.query(
        """select lower(c.table_schema) as schema_name, lower(c.table_name) as table_name,
            lower(c.column_name) as column_name
        from information_schema.columns as c
        join information_schema.tables as t on t.table_schema = c.table_schema and t.table_name = c.table_name
        where t.table_type = 'BASE TABLE' and lower(c.column_name) in ('shop', 'client_id', 'session_id', 'session_key')
            and lower(c.table_schema) <> 'information_schema'"""
    ).to_pylist()
    known: dict[str, set[str]] = {}
    for row in columns:
        known.setdefault(f"{row['schema_name']}.{row['table_name']}", set()).add(row["column_name"])
    for table, names in sorted(known.items()):
        if table.startswith(f"{_RAW}."):
            continue
        if "session_key" in names:
            yield table, list(_session_keys(client))
        elif {"shop", "client_id"} <= names:
            every = list(client.conditions())
            yield table, every if "session_id" in names else every[:1]


def _session_keys(client: Client) -> Iterator[tuple[str, list[str]]]:
    """Conditions of rows of the client's sessions: those the shop counts, and those cut from the client's events."""
    cut = f"{client.shop}:{client.client_id}:"
    yield f"left(session_key, {len(cut)}) = ?", [cut]
    for ids in batches(sorted(client.sessions)):
        places = ", ".join("?" * len(ids))
        yield f"session_key in ({places})", [f"{client.shop}:{session_id}" for session_id in ids]


def _count(session: Session, table: str, condition: str, parameters: list[str]) -> int:
    rows: int = session.query(f"select count(*) as n from {table} where {condition}", parameters)["n"][0].as_py()
    return rows


def _rows_in_snapshot(folder: Path, client: Client) -> int:
    files = [str(path) for path in (folder / "next_item.parquet", folder / "intent.parquet") if path.is_file()]
    rows = 0
    with scratch() as local:
        for condition, parameters in _session_keys(client) if files else ():
            found = local.query(f"select count(*) as n from read_parquet(?) where {condition}", [files, *parameters])
            rows += found["n"][0].as_py()
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


def _growing(landing: Path, client: Client) -> Iterator[str]:
    for path in sorted(landing.rglob(".open/*.ndjson")):
        if any(client.is_named_in(line) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()):
            yield path.relative_to(landing).as_posix()


def _fingerprint(client: Client) -> str:
    return hashlib.sha256(json.dumps([client.shop, client.client_id]).encode()).hexdigest()
