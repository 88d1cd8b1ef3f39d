"""Search for one client in landing files, tables, dead letters and snapshots."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from boat.errors import DataError
from boat.landing import bucket
from boat.landing.files import LandingFile
from boat.raw_log import tables
from boat.raw_log.proof import Note, Searched
from boat.raw_log.survey import ClientRows, client_tables, count_rows, find_rows, find_rows_in_files
from boat.raw_log.traces import Client, Match, Trace, all_files, can_hold_clients, search_text, trace
from boat.warehouse import Transaction, Warehouse

_RAW = tables.SCHEMA
_ELSEWHERE = "contains the id, but not as the id of a client"
_UNCLEAR = "rows without a client, in a session with other clients"
_BY_HAND = "remove the client from it, or delete it, then erase again"


@dataclass
class Findings:
    """Results of a search of every location. Names can contain the id; `erase` masks it."""

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
        """Return the searched locations, with masked names."""
        return Searched(
            client.hidden(str(landing)),
            self.files,
            self.other_files,
            tuple(self.tables),
            client.hidden(str(snapshots)),
            tuple(map(client.hidden, self.snapshot_names)),
        )

    def notes(self, client: Client, notes: list[Note]) -> tuple[Note, ...]:
        """Return notes with masked names."""
        return tuple(replace(note, name=client.hidden(note.name)) for note in notes)

    def add_trace(self, kind: str, name: str, file_rows: Trace) -> None:
        """Add the rows of a landing file or of an old version of it."""
        if file_rows.theirs:
            self.rows[kind, name] += file_rows.theirs
        if file_rows.not_rewritten:
            self.not_erased.append(
                Note(kind, name, file_rows.not_rewritten, f"is a {file_rows.file.kind} file: {_BY_HAND}")
            )
        if file_rows.unread:
            self.not_searched.append(Note(kind, name, file_rows.unread, "has lines that are too long to be searched"))
        self.mention(kind, name, file_rows.mentions, _ELSEWHERE)
        self.mention(kind, name, file_rows.unclear, _UNCLEAR)

    def add_text(self, kind: str, name: str, path: Path, client: Client, reason: str) -> None:
        """Search a file that is not loaded, and add the result."""
        text = search_text(path, client)
        if text.obstacle:
            self.not_searched.append(Note(kind, name, 0, f"{text.obstacle} ({reason}): {_BY_HAND}"))
        elif lines := text.own + text.mentions:
            self.not_erased.append(Note(kind, name, lines, f"{reason}, and is not rewritten: {_BY_HAND}"))

    def mention(self, kind: str, name: str, rows: int, text: str) -> None:
        """Add a note about rows that are not erased, if there are any."""
        if rows:
            self.mentions.append(Note(kind, name, rows, text))


def search_everywhere(
    warehouse: Warehouse, landing: Path | str, folder: Path, snapshots: Path | str, client: Client
) -> Findings:
    findings = Findings()
    _search_files(findings, "file", "", folder, client)
    for old in bucket.old_versions(str(landing)) if bucket.is_bucket(landing) else ():
        with bucket.fetched_old(str(landing), old) as old_folder:
            _search_files(findings, "old version", f" {old.version}", old_folder, client)
    with warehouse.transaction() as transaction:
        _search_dead_letters(findings, transaction, client)
        for table, columns in client_tables(transaction):
            findings.tables.append(table)
            client_rows = find_rows(transaction, table, columns, client)
            _add_client_rows(findings, "table", table, client_rows)
            if table == f"{_RAW}.events":
                findings.linked |= client_rows.linked
                unclear = sum(
                    count_rows(transaction, table, *condition) for condition in client.without_client(client.shared)
                )
                findings.mention("table", table, unclear, _UNCLEAR)
    _search_snapshots(findings, snapshots, client)
    return findings


def _search_files(findings: Findings, kind: str, suffix: str, folder: Path, client: Client) -> None:
    files, other_files = all_files(folder)
    for file in files:
        if can_hold_clients(file):
            findings.files += 1
        else:
            findings.other_files += 1
        if file_rows := trace_if_readable(file, client):
            findings.add_trace(kind, file.name + suffix, file_rows)
        else:
            findings.add_text(kind, file.name + suffix, file.path, client, "does not have the content of its file type")
    for path, reason in other_files:
        findings.other_files += 1
        name = path.relative_to(folder).as_posix()
        is_growing = path.parent.name == ".open" and path.suffix == ".ndjson"
        if is_growing and (file_rows := trace_if_readable(LandingFile(path, name, "events", "ndjson"), client)):
            findings.growing += [name + suffix] if file_rows.theirs else []
            findings.mention(kind, name + suffix, file_rows.mentions, _ELSEWHERE)
        else:
            findings.add_text(kind, name + suffix, path, client, reason)


def _search_dead_letters(findings: Findings, transaction: Transaction, client: Client) -> None:
    table = f"{_RAW}.dead_letters"
    findings.tables.append(table)
    letters = client_letters(transaction, client)
    if own := sum(match is Match.OWN for _letter, match in letters):
        findings.rows["table", table] = own
    findings.mention("table", table, len(letters) - own, _ELSEWHERE)


def _search_snapshots(findings: Findings, snapshots: Path | str, client: Client) -> None:
    for name in _snapshot_names(snapshots):
        findings.snapshot_names.append(name)
        with _snapshot(snapshots, name) as folder:
            files = [str(path) for path in (folder / "recommend.parquet", folder / "intent.parquet") if path.is_file()]
            try:
                for client_rows in (find_rows_in_files(files, client),) if files else ():
                    _add_client_rows(findings, "snapshot", name, client_rows)
            except duckdb.Error:
                findings.not_searched.append(Note("snapshot", name, 0, "cannot be read: delete it"))
    for folder in sorted(Path(snapshots).glob("*/")) if not bucket.is_bucket(snapshots) else ():
        if folder.name not in findings.snapshot_names and any(folder.glob("*.parquet")):
            findings.not_searched.append(
                Note("snapshot", folder.name, 0, "has no manifest and is not a snapshot: delete it")
            )


def _add_client_rows(findings: Findings, kind: str, name: str, client_rows: "ClientRows") -> None:
    if client_rows.rows:
        findings.rows[kind, name] += client_rows.rows
    for column, rows in sorted(client_rows.mentions.items()):
        findings.mention(kind, f"{name}.{column}", rows, _ELSEWHERE)


def trace_if_readable(file: LandingFile, client: Client) -> Trace | None:
    """Return the rows of the client in a file, or `None` if its content does not fit its file type."""
    try:
        return trace(file, client)
    except DataError:
        return None


def client_letters(transaction: Transaction, client: Client) -> list[tuple[tuple[str, str, int], Match]]:
    """Return load, file and line of dead letters with the client's id, each with its match."""
    rows = transaction.query(
        f"""select load_id, source_file, source_line, payload, message from {_RAW}.dead_letters
        where {client.may_be_in("payload")} or {client.may_be_in("message")}"""
    ).to_pylist()
    letters = [
        (
            (row["load_id"], row["source_file"], row["source_line"]),
            max(client.match_in_failed(row["payload"] or ""), client.match(row["message"] or "")),
        )
        for row in rows
    ]
    return [(letter, match) for letter, match in letters if match is not Match.NONE]


def _snapshot_names(snapshots: Path | str) -> list[str]:
    if bucket.is_bucket(snapshots):
        return sorted({name.partition("/")[0] for name in bucket.names(str(snapshots)) if name.count("/") == 1})
    return sorted(manifest.parent.name for manifest in Path(snapshots).glob("*/manifest.json"))


@contextmanager
def _snapshot(snapshots: Path | str, name: str) -> Iterator[Path]:
    """Open a snapshot as a local folder."""
    if not bucket.is_bucket(snapshots):
        yield Path(snapshots) / name
        return
    with bucket.at_hand(f"{str(snapshots).rstrip('/')}/{name}") as folder:
        yield folder
