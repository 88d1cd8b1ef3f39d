"""Find rows of one client in landing files, write the files without them, and search other texts."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pyarrow as pa

from boat.errors import DataError
from boat.events import BLANKS, SYNONYMS, ValueProblem, identifier, plain_name
from boat.landing import rows, validation
from boat.landing.dead_letters import MAX_PAYLOAD, Reason
from boat.landing.discovery import discover
from boat.landing.files import LandingFile, digest
from boat.landing.rows import EVENT_FIELDS, LAYOUTS
from boat.landing.staging import Reading, number, read_alone
from boat.landing.text import copy_without
from boat.landing.values import literal
from boat.warehouse.duckdb import DuckDBTransaction

_BATCH = 500
_BLOCK = 1 << 20
_LONGEST_NUMBER = 38
_DEEPEST = 20
CLIENT_NAMES = frozenset(
    plain_name(name)
    for name in ("client_id", *SYNONYMS["client_id"], "uid", "cid", "user", "client", "customer", "visitor")
)
"""Plain names of fields and URL parameters whose whole value is a client's id."""
_WRAPPERS = frozenset(
    plain_name(name) for name in ("value", "string_value", "int_value", "float_value", "double_value")
)
"""Keys between the name of a field and its value in some exports."""
_PARAMETER = re.compile(r"([^\s=&?#;/\"']+)=([^&#;]*)")
_QUERY_STRING = re.compile(r"\??[^\s=&?]+=\S*")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]")
_GZIP = b"\x1f\x8b"


class Match(IntEnum):
    """How a text contains a client's id: not at all, as a word, or as the value of a client field."""

    NONE = 0
    MENTION = 1
    OWN = 2


@dataclass(frozen=True)
class Client:
    """The client to search for.

    An event belongs to the client if it has the id as `client_id`, or as the whole value of another field or URL
    parameter of `CLIENT_NAMES`, or if it has no client and its session has no other client.

    Attributes:
        shop: Shop of the client.
        client_id: The id, as `boat.events.identifier` writes it.
        sessions: Ids of sessions with this client only.
        shared: Ids of sessions with this client and others.
    """

    shop: str
    client_id: str
    sessions: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Return the id, and its spellings by earlier versions."""
        return spellings(self.client_id)

    def has_id(self, column: str) -> tuple[str, list[str]]:
        """Return the SQL condition, with its parameters, that a column holds the id."""
        return f"trim({column}) in ({', '.join('?' * len(self.ids))})", list(self.ids)

    def conditions(self) -> Iterator[tuple[str, list[str]]]:
        """Yield SQL conditions with parameters. No event meets two of them, and each event of the client meets one."""
        condition, ids = self.has_id("client_id")
        yield f"(shop = ? and {condition})", [self.shop, *ids]
        yield from self.without_client(self.sessions)

    def without_client(self, sessions: frozenset[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield SQL conditions of the events without a client in these sessions."""
        for batch in batches(sorted({spelling for session in sessions for spelling in spellings(session)})):
            marks = ", ".join("?" * len(batch))
            yield f"(shop = ? and client_id is null and session_id in ({marks}))", [self.shop, *batch]

    def may_be_in(self, text: str) -> str:
        """Return an SQL condition that every text with the id meets, and few others. All warehouses understand it."""
        runs = sorted({_longest_run(spelling) for spelling in self.ids})
        if not all(runs):
            return f"({text} is not null)"
        # Encodings put these before a character: %22, \u0022, \n. Without backslashes, which Snowflake would unescape.
        before = "(^|[^0-9A-Za-z]|%[0-9A-Fa-f][0-9A-Fa-f]|u[0-9A-Fa-f]{4}|[^0-9A-Za-z][bfnrt])"
        conditions = (
            f"(position('{run}' in {text}) > 0"
            f" and regexp_replace({text}, '{before}{run}($|[^0-9A-Za-z])', '') <> {text})"
            for run in runs
        )
        return f"({' or '.join(conditions)})"

    def match(self, text: str, column: str = "") -> Match:
        """Return how a text contains the id. The text is JSON, a URL or plain, and may be the value of a column."""
        best = Match.NONE
        if not self._run.search(text):
            return best
        for path, leaf in _leaves(text, (column,)):
            if _is_client_field(path) and self._is_id(leaf):
                return Match.OWN
            if self._word.search(str(leaf)):
                best = Match.MENTION
        return best

    def match_in_failed(self, text: str) -> Match:
        """Return how a failed row contains the id. A word of a text without named fields counts as the client's id."""
        content = _json(text)
        if isinstance(content, dict):
            shop = content.get("shop")
            if isinstance(shop, str) and identifier(shop) not in {None, self.shop}:
                return Match.NONE
            payload = content.pop("payload", None)  # dead letters of the collector
            best = self.match_in_failed(payload if isinstance(payload, str) else json.dumps(payload))
            return max(best, self.match(json.dumps(content)))
        if isinstance(content, list) and any(map(self._is_id, content)):
            return Match.OWN  # fields of a CSV row with too many or too few fields
        best = self.match(text)
        has_names = isinstance(content, list) or _QUERY_STRING.fullmatch(text)
        return Match.OWN if best is Match.MENTION and not has_names else best

    def hidden(self, name: str) -> str:
        """Return a file name with the id masked. A short id is not masked: `7` may be a month."""
        for spelling in self._spellings if len(self.client_id) > len("1234") else ():
            name = name.replace(spelling, "[client]")
        return name

    def _is_id(self, value: Any) -> bool:
        try:
            return identifier(value) == self.client_id or value in self.ids
        except ValueProblem:
            return False

    @cached_property
    def _spellings(self) -> tuple[str, ...]:
        """Return the spellings of the id in texts, JSON and URLs, longest first."""
        encoded = set()
        for text in self.ids:
            in_json = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
            encoded |= {text, *in_json, quote(text, safe=""), quote_plus(text)}
        return tuple(sorted(encoded, key=lambda spelling: (-len(spelling), spelling)))

    @cached_property
    def _run(self) -> re.Pattern[str]:
        return re.compile("|".join(sorted({_longest_run(spelling) for spelling in self.ids})))

    @cached_property
    def _word(self) -> re.Pattern[str]:
        words = "|".join(map(re.escape, self._spellings))
        if self.client_id.lstrip("-").isdecimal():  # 7 is not a word of 7.5
            return re.compile(rf"(?<![\w-])(?<!\d\.)(?:{words})(?![\w-])(?!\.\d)")
        return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")


def _longest_run(text: str) -> str:
    """Return the longest part of a text that no encoding changes."""
    return max(re.findall("[0-9A-Za-z]+", text), key=len, default="")


def spellings(text: str) -> tuple[str, ...]:
    """Return an id and, for a whole number, its spellings by earlier versions that read it as a float."""
    if not re.fullmatch(r"-?\d+", text, re.ASCII):
        return (text,)
    floats = {f"{text}.0"}
    if len(text) <= _LONGEST_NUMBER and identifier(float(text)) == text:
        floats.add(repr(float(text)))
    return (text, *sorted(floats))


def _leaves(text: str, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values in a text with the names that lead to each; JSON and URL parameters inside values are opened."""
    parts: list[tuple[tuple[str, ...], Any]] = [(path, text)]
    opened = set()
    while parts:
        path, part = parts.pop()
        if isinstance(part, dict):
            name = next((part[key] for key in ("key", "name") if isinstance(part.get(key), str)), None)
            for key, value in part.items():
                inner = (*path, name) if name is not None and plain_name(key) in _WRAPPERS else (*path, key)
                parts += [((), key), (path if name is None and plain_name(key) in _WRAPPERS else inner, value)]
        elif isinstance(part, list):
            parts += [(path, value) for value in part]
        elif isinstance(part, str):
            if (content := _json(part)) is not None:
                parts.append((path, content))
                continue
            yield path, part
            if (path, part) in opened or len(path) > _DEEPEST:
                continue
            opened.add((path, part))
            if "%3d" in part.lower():
                parts.append((path, unquote(part)))
            for name, value in _PARAMETER.findall(part) if "=" in part else ():
                values = {value, value.split()[0] if value.split() else ""}
                decoded = {decode(text) for text in values for decode in (unquote, unquote_plus)}
                parts += [((*path, unquote(name)), text) for text in decoded]
        elif part is not None and not isinstance(part, bool):
            yield path, identifier(part)


def _json(text: str) -> dict[str, Any] | list[Any] | None:
    """Parse a text as a JSON object or list; return `None` if it is neither."""
    if not text.lstrip(BLANKS).startswith(("{", "[")):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, (dict, list)) else None


def _is_client_field(path: Sequence[str]) -> bool:
    """Tell whether names lead to a client's id: `userId`, `up.user_id`, `user[id]`, or `id` in an object `user`."""
    names = [plain_name(name) for part in path[-2:] for name in re.split(r"[.\[\]:/]+", part) if name]
    names = [name for name in names if name not in _WRAPPERS]
    if names[-1:] == ["id"] and len(names) > 1:
        return names[-2] in CLIENT_NAMES
    return bool(names) and names[-1] in CLIENT_NAMES


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield ids in batches that a statement accepts as parameters."""
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


@dataclass(frozen=True)
class Trace:
    """Rows of a client in a file.

    Attributes:
        file: The file.
        lines: Lines of the client's rows.
        rows: Number of all rows in the file; 0 if a quick check showed that it has no row of the client.
        theirs: Number of rows of the client.
        unused: Number of these rows whose type is not used; the ledger does not count them.
        mentions: Number of other rows with the id as a word.
        unclear: Number of rows without a client in sessions that other clients share.
        unread: Number of lines that are too long to be searched to their end.
        not_rewritten: Number of rows with the client's id in a kind of file that is not rewritten.
    """

    file: LandingFile
    lines: frozenset[int]
    rows: int
    theirs: int
    unused: int
    mentions: int
    unclear: int
    unread: int
    not_rewritten: int


def can_hold_clients(file: LandingFile) -> bool:
    """Return whether a kind of file can contain clients; a catalogue cannot."""
    return file.kind == "dead_letters" or LAYOUTS[file.kind].fields is EVENT_FIELDS


def sessions(file: LandingFile, client: Client) -> frozenset[str]:
    """Return the ids of the client's sessions in a file.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, client.ids):
        return frozenset()
    condition, ids = client.has_id("client_id")
    with _staged(file) as local:
        ids_of_sessions = local.query(
            f"select distinct session_id from landing_events where shop = ? and {condition} and session_id is not null",
            [client.shop, *ids],
        )
        return frozenset(ids_of_sessions.column(0).to_pylist())


def shared(file: LandingFile, client: Client, session_ids: frozenset[str]) -> frozenset[str]:
    """Return the sessions, among some, that have another client in a file.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, session_ids):
        return frozenset()
    with _staged(file) as local:
        return shared_in(local, "(from landing_events where flaw is null)", client, session_ids)


def shared_in(transaction: Any, events: str, client: Client, session_ids: frozenset[str]) -> frozenset[str]:
    """Return the sessions, among some, that have another client in a relation.

    Args:
        transaction: Transaction of the warehouse, or of a local DuckDB.
        events: The relation.
        client: The client, who does not count as another one.
        session_ids: Ids of sessions.
    """
    condition, ids = client.has_id("client_id")
    of_others: set[str] = set()
    for batch in batches(sorted(session_ids)):
        marks = ", ".join("?" * len(batch))
        rows = transaction.query(
            f"""select distinct session_id from {events} as event
            where shop = ? and client_id is not null and not {condition} and session_id in ({marks})""",
            [client.shop, *ids, *batch],
        )
        of_others |= set(rows.column(0).to_pylist())
    return frozenset(of_others)


def trace(file: LandingFile, client: Client) -> Trace:
    """Find the rows of a client in a file.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, {*client.ids, *client.sessions, *client.shared}):
        return Trace(file, frozenset(), rows=0, theirs=0, unused=0, mentions=0, unclear=0, unread=0, not_rewritten=0)
    return _trace(file, client)


def _may_hold(file: LandingFile, texts: Iterable[str]) -> bool:
    """Return whether one of some ids may be in a file, without reading events: most files do not contain a client."""
    runs = {_longest_run(text) for text in texts}
    if file.format == "parquet" or file.names or not all(runs):  # the id may be in the file that goes with it
        return True
    # A zero byte means UTF-16, which the readers handle.
    pattern = re.compile("|".join([*map(re.escape, sorted(runs)), "\0"]).encode())
    overlap, tail = max(map(len, runs), default=1), b""
    try:
        with gzip.open(file.path) if file.is_compressed else file.path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                if pattern.search(tail + block):
                    return True
                tail = block[-overlap:]
    except (OSError, EOFError, zlib.error):
        return True
    return False


def _trace(file: LandingFile, client: Client) -> Trace:
    with _staged(file, client) as local:
        lines: set[int] = set()
        for condition, parameters in client.conditions():
            lines |= _lines(local, f"where {condition}", parameters)
        events, of_shop = _lines(local), _lines(local, "where shop = ?", [client.shop])
        failed = local.query("select source_line as line, payload from landing_failed").to_pylist()
        unread = sum(len(row["payload"] or "") == MAX_PAYLOAD and row["line"] not in events for row in failed)
        failed = [row for row in failed if row["line"] not in events]
        matches: dict[int, Match] = {}
        for row in local.query("select line, text from landing_texts").to_pylist():
            if row["line"] in of_shop or not can_hold_clients(file):
                matches[row["line"]] = client.match(row["text"])
            elif row["line"] not in events:
                matches[row["line"]] = client.match_in_failed(row["text"])
        for row in failed:
            match = client.match_in_failed(row["payload"] or "")
            matches[row["line"]] = max(matches.get(row["line"], Match.NONE), match)
        own = {line for line, match in matches.items() if match is Match.OWN}
        lines |= own if can_hold_clients(file) else set()
        local.execute("create temp table landing_own as select unnest(?::bigint[]) as line", [sorted(lines)])
        theirs = "from landing_events where line in (select line from landing_own)"
        unclear = sum(
            number(local, f"select count(*) from landing_events where {condition}", *parameters)
            for condition, parameters in client.without_client(client.shared)
        )
        return Trace(
            file,
            frozenset(lines),
            rows=number(local, "select count(*) from landing_events") + len(failed),
            theirs=number(local, f"select count(*) {theirs}") + sum(row["line"] in lines for row in failed),
            unused=number(local, f"select count(*) {theirs} and (flaw ->> 0) = {literal(Reason.UNUSED)}"),
            mentions=sum(match is Match.MENTION and line not in lines for line, match in matches.items()),
            unclear=unclear,
            unread=unread,
            not_rewritten=len(own - lines),
        )


def _lines(local: DuckDBTransaction, where: str = "", parameters: Sequence[str] = ()) -> set[int]:
    numbers = local.query(f"select distinct line from landing_events {where}", parameters)
    return set(numbers.column(0).to_pylist())


def erased_copy(trace: Trace, client: Client) -> tuple[Path, str]:
    """Write a copy of a file without the client, in the same folder under a hidden name; return path and digest.

    Raises:
        DataError: The copy has an unexpected number of rows; it is removed.
    """
    path = trace.file.path
    copy = path.with_name(f"{COPY_PREFIX}{path.name}")
    copy_without(trace.file, set(trace.lines), copy)
    written = replace(trace.file, path=copy)
    after = _trace(written, client)
    if after.theirs or after.rows != trace.rows - trace.theirs:
        copy.unlink()
        raise DataError(
            f"{trace.file.name}: without its {trace.theirs} rows of the client it would have {after.rows} of "
            f"{trace.rows} rows, {after.theirs} of them the client's.",
            "Nothing was changed. Check whether its lines have different line endings.",
        )
    return copy, digest(written)


COPY_PREFIX = ".erasing-"


@dataclass(frozen=True)
class TextMatches:
    """Lines of a text file that have a client's id.

    Attributes:
        own: Number of lines with the id as the value of a client field or URL parameter.
        mentions: Number of other lines with the id.
        obstacle: Reason why the file could not be searched; empty if it was searched.
    """

    own: int = 0
    mentions: int = 0
    obstacle: str = ""


def search_text(path: Path, client: Client) -> TextMatches:
    """Search a file of any kind for a client's id, line by line."""
    own = mentions = 0
    try:
        with path.open("rb") as stream:
            is_packed = stream.read(2) == _GZIP
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            for line in stream:
                if _BINARY.search(line):
                    return TextMatches(obstacle="is binary")
                match = client.match(line.decode("utf-8", "surrogateescape"))
                own, mentions = own + (match is Match.OWN), mentions + (match is Match.MENTION)
    except (OSError, EOFError, zlib.error) as error:
        return TextMatches(obstacle=f"cannot be read ({type(error).__name__})")
    return TextMatches(own, mentions)


def all_files(folder: Path) -> tuple[tuple[LandingFile, ...], tuple[tuple[Path, str], ...]]:
    """Return every file of a landing folder: files that are loaded, and path and reason of other files.

    Raises:
        DataError: The folder does not exist.
    """
    files, ignored = discover(folder)
    files = (*files, *(file.names for file in files if file.names))
    reasons = {file.path: file.reason for file in ignored}
    loaded = {file.path for file in files}
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in loaded)
    return files, tuple((path, reasons.get(path, "is hidden or temporary")) for path in paths)


@contextmanager
def _staged(file: LandingFile, client: Client | None = None) -> Iterator[DuckDBTransaction]:
    """Open a DuckDB with a file's events in `landing_events`, and its failed rows in `landing_failed`.

    With a client, `landing_texts` has the rows that may contain the id, as text.
    """

    def stage(opened: Reading) -> None:
        if file.kind == "dead_letters":
            _stage_no_events(opened.local)
            opened.local.execute(
                """insert into landing_failed
                select '', line, '', '', '', json, null from landing_rows where json is not null"""
            )
        elif can_hold_clients(file):
            opened.validate("landing_events", validation.events)
        else:
            _stage_no_events(opened.local)
        if client:
            _stage_texts(opened, client)

    with read_alone(file, stage) as opened:
        yield opened.local


def _stage_no_events(local: DuckDBTransaction) -> None:
    local.execute(
        """create temp table landing_events
        (line bigint, shop varchar, client_id varchar, session_id varchar, flaw varchar)"""
    )


def _stage_texts(opened: Reading, client: Client) -> None:
    text = rows.payload(opened.file, opened.columns)
    types = zip(opened.columns.names, opened.columns.types, strict=False)
    nested = [
        f"{literal(name)}, c{index}" for index, (name, data_type) in enumerate(types) if pa.types.is_nested(data_type)
    ]
    if nested:  # as JSON, for the names inside
        text = f"cast(json_merge_patch({text}, json_object({', '.join(nested)})) as varchar)"
    query = f"select line, text from (select line, {text} as text from landing_rows) where {client.may_be_in('text')}"
    if number(opened.local, f"select count(*) from ({query})"):
        opened.number_lines()
    opened.local.execute(f"create temp table landing_texts as {query}")
