"""Rows of one client in landing files, the same files without them, and matches in texts that are no events."""

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
from boat.landing.files import LandingFile, digest, discover, without
from boat.landing.rows import EVENT_FIELDS, LAYOUTS
from boat.landing.staging import Reading, number, read_alone
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
"""Keys that exports put between a field's name and its value."""
_PARAMETER = re.compile(r"([^\s=&?#;/\"']+)=([^&#;]*)")
_QUERY_STRING = re.compile(r"\??[^\s=&?]+=\S*")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x19\x1c-\x1f]")
_GZIP = b"\x1f\x8b"


class Match(IntEnum):
    """How a text has a client's id: not at all, as a word anywhere, or as the value of a client's field."""

    NONE = 0
    MENTION = 1
    OWN = 2


@dataclass(frozen=True)
class Client:
    """The client that is searched for.

    An event is the client's own if it has their id as `client_id`, or as the whole value of another field or URL
    parameter of `CLIENT_NAMES`, or if it has no client and is of a session in which no other client was seen.

    Attributes:
        shop: The shop that knows them by this id.
        client_id: The id, as `boat.events.identifier` writes it.
        sessions: Ids of the sessions in which only they were seen.
        shared: Ids of the sessions in which other clients were seen too.
    """

    shop: str
    client_id: str
    sessions: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The id, and what earlier versions made of it in tables."""
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
        for some in batches(sorted({spelled for session in sessions for spelled in spellings(session)})):
            places = ", ".join("?" * len(some))
            yield f"(shop = ? and client_id is null and session_id in ({places}))", [self.shop, *some]

    def may_be_in(self, text: str) -> str:
        """Return SQL that holds of every text with the id in it, and of few others. Understood by all warehouses."""
        runs = sorted({_longest_run(one) for one in self.ids})
        if not all(runs):
            return f"({text} is not null)"
        # What encodings put before a character: %22, \u0022, \n. Without backslashes, which Snowflake would unescape.
        before = "(^|[^0-9A-Za-z]|%[0-9A-Fa-f][0-9A-Fa-f]|u[0-9A-Fa-f]{4}|[^0-9A-Za-z][bfnrt])"
        conditions = (
            f"(position('{run}' in {text}) > 0"
            f" and regexp_replace({text}, '{before}{run}($|[^0-9A-Za-z])', '') <> {text})"
            for run in runs
        )
        return f"({' or '.join(conditions)})"

    def match(self, text: str, column: str = "") -> Match:
        """Return how a text has the id: a JSON text, a URL, or any other, perhaps of a column."""
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
        """Return the same of a row that is no event. A word of a text without named fields counts as the client's."""
        content = _json(text)
        if isinstance(content, dict):
            shop = content.get("shop")
            if isinstance(shop, str) and identifier(shop) not in {None, self.shop}:
                return Match.NONE
            payload = content.pop("payload", None)  # of the collector's dead letters
            best = self.match_in_failed(payload if isinstance(payload, str) else json.dumps(payload))
            return max(best, self.match(json.dumps(content)))
        if isinstance(content, list) and any(map(self._is_id, content)):
            return Match.OWN  # fields of a CSV row that has too many or too few
        best = self.match(text)
        has_names = isinstance(content, list) or _QUERY_STRING.fullmatch(text)
        return Match.OWN if best is Match.MENTION and not has_names else best

    def hidden(self, name: str) -> str:
        """Return a name of a file without the id. A short one is no trace: `7` may be a month."""
        for spelled in self._spellings if len(self.client_id) > len("1234") else ():
            name = name.replace(spelled, "[client]")
        return name

    def _is_id(self, value: Any) -> bool:
        try:
            return identifier(value) == self.client_id or value in self.ids
        except ValueProblem:
            return False

    @cached_property
    def _spellings(self) -> tuple[str, ...]:
        """The id as it can stand in texts, in JSON and in addresses."""
        found = set()
        for one in self.ids:
            written = (json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])
            found |= {one, *written, quote(one, safe=""), quote_plus(one)}
        return tuple(sorted(found, key=lambda one: (-len(one), one)))

    @cached_property
    def _run(self) -> re.Pattern[str]:
        return re.compile("|".join(sorted({_longest_run(one) for one in self.ids})))

    @cached_property
    def _word(self) -> re.Pattern[str]:
        spelled = "|".join(map(re.escape, self._spellings))
        if self.client_id.lstrip("-").isdecimal():  # 7 is no word of 7.5
            return re.compile(rf"(?<![\w-])(?<!\d\.)(?:{spelled})(?![\w-])(?!\.\d)")
        return re.compile(rf"(?<![\w-])(?:{spelled})(?![\w-])")


def _longest_run(text: str) -> str:
    """Return the part of a text that stands in every encoding as it is."""
    return max(re.findall("[0-9A-Za-z]+", text), key=len, default="")


def spellings(text: str) -> tuple[str, ...]:
    """Return an id and, of a whole number, how earlier versions wrote it when it came as a float."""
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
                decoded = {read(one) for one in values for read in (unquote, unquote_plus)}
                parts += [((*path, unquote(name)), one) for one in decoded]
        elif part is not None and not isinstance(part, bool):
            yield path, identifier(part)


def _json(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or list that a text is the JSON of."""
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
    """Ids in portions that a statement can take as parameters."""
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


@dataclass(frozen=True)
class Trace:
    """Rows of a client in a file.

    Attributes:
        file: The file.
        lines: Lines of the client's rows.
        rows: Rows in the file, theirs and others'; 0 if it was seen at once that none can be theirs.
        theirs: Rows that are theirs.
        unused: Those of them whose type is not used, which the ledger does not count.
        mentions: Other rows with the id as a word.
        unclear: Rows without a client in sessions that other clients share.
        unread: Lines that are too long to be searched to their end.
        kept: Rows with the id as a client's, in a file of a kind that is not rewritten.
    """

    file: LandingFile
    lines: frozenset[int]
    rows: int
    theirs: int
    unused: int
    mentions: int
    unclear: int
    unread: int
    kept: int


def can_hold_clients(file: LandingFile) -> bool:
    """Whether a file is of a kind that knows clients: a catalogue does not."""
    return file.kind == "dead_letters" or LAYOUTS[file.kind].fields is EVENT_FIELDS


def sessions(file: LandingFile, client: Client) -> frozenset[str]:
    """Ids of the sessions in which a file has seen the client.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, client.ids):
        return frozenset()
    condition, ids = client.has_id("client_id")
    with _staged(file) as local:
        seen = local.query(
            f"select distinct session_id from landing_events where shop = ? and {condition} and session_id is not null",
            [client.shop, *ids],
        )
        return frozenset(seen.column(0).to_pylist())


def shared(file: LandingFile, client: Client, among: frozenset[str]) -> frozenset[str]:
    """Those of some sessions in which a file has seen another client.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, among):
        return frozenset()
    with _staged(file) as local:
        return others_in(local, "(from landing_events where flaw is null)", client, among)


def others_in(session: Any, events: str, client: Client, among: frozenset[str]) -> frozenset[str]:
    """Those of some sessions in which events of a relation have another client.

    Args:
        session: A warehouse's session, or a local one.
        events: The relation.
        client: The one who is not meant.
        among: Ids of sessions.
    """
    condition, ids = client.has_id("client_id")
    found: set[str] = set()
    for some in batches(sorted(among)):
        places = ", ".join("?" * len(some))
        seen = session.query(
            f"""select distinct session_id from {events} as event
            where shop = ? and client_id is not null and not {condition} and session_id in ({places})""",
            [client.shop, *ids, *some],
        )
        found |= set(seen.column(0).to_pylist())
    return frozenset(found)


def trace(file: LandingFile, client: Client) -> Trace:
    """Where in a file the client is.

    Raises:
        DataError: The file cannot be read.
    """
    if not _may_hold(file, {*client.ids, *client.sessions, *client.shared}):
        return Trace(file, frozenset(), rows=0, theirs=0, unused=0, mentions=0, unclear=0, unread=0, kept=0)
    return _trace(file, client)


def _may_hold(file: LandingFile, texts: Iterable[str]) -> bool:
    """Tell, without reading events, whether one of some ids may be in a file: most files have none of a client."""
    runs = {_longest_run(text) for text in texts}
    if file.format == "parquet" or file.names or not all(runs):  # the id may be in the file that goes with it
        return True
    # A zero byte is of UTF-16, which is left to the readers.
    wanted = re.compile("|".join([*map(re.escape, sorted(runs)), "\0"]).encode())
    overlap, tail = max(map(len, runs), default=1), b""
    try:
        with gzip.open(file.path) if file.is_packed else file.path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                if wanted.search(tail + block):
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
        found: dict[int, Match] = {}
        for row in local.query("select line, text from landing_texts").to_pylist():
            if row["line"] in of_shop or not can_hold_clients(file):
                found[row["line"]] = client.match(row["text"])
            elif row["line"] not in events:
                found[row["line"]] = client.match_in_failed(row["text"])
        for row in failed:
            found[row["line"]] = max(found.get(row["line"], Match.NONE), client.match_in_failed(row["payload"] or ""))
        own = {line for line, match in found.items() if match is Match.OWN}
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
            mentions=sum(match is Match.MENTION and line not in lines for line, match in found.items()),
            unclear=unclear,
            unread=unread,
            kept=len(own - lines),
        )


def _lines(local: DuckDBTransaction, where: str = "", parameters: Sequence[str] = ()) -> set[int]:
    found = local.query(f"select distinct line from landing_events {where}", parameters)
    return set(found.column(0).to_pylist())


def erased_copy(found: Trace, client: Client) -> tuple[Path, str]:
    """Write a file without the client beside it, under a hidden name; returns that and its digest.

    Raises:
        DataError: The copy is not what it has to be; it is removed.
    """
    path = found.file.path
    copy = path.with_name(f"{COPY_PREFIX}{path.name}")
    without(found.file, set(found.lines), copy)
    written = replace(found.file, path=copy)
    after = _trace(written, client)
    if after.theirs or after.rows != found.rows - found.theirs:
        copy.unlink()
        raise DataError(
            f"{found.file.name}: without its {found.theirs} rows of the client it would have {after.rows} of "
            f"{found.rows} rows, {after.theirs} of them the client's.",
            "Nothing was changed. Are its lines ended in different ways?",
        )
    return copy, digest(written)


COPY_PREFIX = ".erasing-"


@dataclass(frozen=True)
class TextMatches:
    """Lines of a text file that have a client's id.

    Attributes:
        own: As the value of a client's field or URL parameter.
        mentions: Anywhere else.
        obstacle: Why the file could not be searched; empty if it was.
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
    """Return every file of a landing folder: those that are loaded, and path and reason of the others.

    Raises:
        DataError: There is no such folder.
    """
    files, ignored = discover(folder)
    files = (*files, *(file.names for file in files if file.names))
    reasons = {one.path: one.reason for one in ignored}
    loaded = {file.path for file in files}
    others = (path for path in sorted(folder.rglob("*")) if path.is_file() and path not in loaded)
    return files, tuple((path, reasons.get(path, "is hidden or temporary")) for path in others)


@contextmanager
def _staged(file: LandingFile, client: Client | None = None) -> Iterator[DuckDBTransaction]:
    """A DuckDB with a file's events in `landing_events`, and what cannot be read of it in `landing_failed`.

    With a client, `landing_texts` has the rows that may hold their id, as text.
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
