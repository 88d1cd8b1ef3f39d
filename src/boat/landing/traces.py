"""What landing files hold of one client, and the same files without it."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, quote_plus

from boat.errors import DataError
from boat.landing import judge
from boat.landing.dead_letters import BadRows
from boat.landing.files import LandingFile, digest, without
from boat.landing.rows import EVENT_FIELDS, LAYOUTS
from boat.landing.staging import UnreadableText, clear_failed, number, reading
from boat.warehouse.duckdb import DuckDBSession, scratch

_APART = BadRows("keep_apart", max_share=1)
_SESSION_BATCH = 500


@dataclass(frozen=True)
class Client:
    """Whose data is looked for.

    An event is theirs where it has their id, or has no client at all and is of a session in which they were seen.

    Attributes:
        shop: The shop that knows them by this id.
        client_id: The id.
        sessions: Ids of the sessions in which they were seen.
    """

    shop: str
    client_id: str
    sessions: frozenset[str] = frozenset()

    def conditions(self) -> Iterator[tuple[str, list[str]]]:
        """SQL conditions with their parameters, which hold of no event together and of all of theirs in turn."""
        yield "(shop = ? and client_id = ?)", [self.shop, self.client_id]
        for ids in batches(sorted(self.sessions)):
            places = ", ".join("?" * len(ids))
            yield f"(shop = ? and client_id is null and session_id in ({places}))", [self.shop, *ids]

    @property
    def spellings(self) -> tuple[str, ...]:
        """The id as it stands in texts, in JSON and in addresses."""
        written = (json.dumps(self.client_id)[1:-1], json.dumps(self.client_id, ensure_ascii=False)[1:-1])
        return tuple(sorted({self.client_id, *written, quote(self.client_id, safe=""), quote_plus(self.client_id)}))

    def is_named_in(self, text: str) -> bool:
        """Whether their id is a word of a text that is no event: whoever it is about, that text goes."""
        word = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, self.spellings))})(?![\w-])")
        return any(word.search(part) for part in (text, *_texts(text)))


def _texts(text: str) -> Iterator[str]:
    """The texts in a JSON text."""
    try:
        parts = [json.loads(text)]
    except (ValueError, RecursionError):
        return
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts += [*part, *part.values()]
        elif isinstance(part, list):
            parts += part
        else:
            yield str(part)


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids in portions that a statement can take as parameters."""
    for start in range(0, len(ids), _SESSION_BATCH):
        yield ids[start : start + _SESSION_BATCH]


@dataclass(frozen=True)
class Trace:
    """What a file holds of a client.

    Attributes:
        file: The file.
        lines: Where.
        rows: Rows in the file, theirs and others'.
        theirs: Rows that are theirs.
    """

    file: LandingFile
    lines: frozenset[int]
    rows: int
    theirs: int


def can_hold_clients(file: LandingFile) -> bool:
    """Whether a file is of a kind that knows clients: a catalogue does not."""
    return file.kind == "dead_letters" or LAYOUTS[file.kind].fields is EVENT_FIELDS


def sessions(file: LandingFile, client: Client) -> frozenset[str]:
    """Ids of the sessions in which a file has seen the client."""
    with _staged(file) as local:
        seen = local.query(
            """select distinct session_id from landing_events
            where shop = ? and client_id = ? and session_id is not null""",
            [client.shop, client.client_id],
        )
        return frozenset(seen.column(0).to_pylist())


def trace(file: LandingFile, client: Client) -> Trace:
    """Where in a file the client is.

    Raises:
        DataError: The file cannot be read.
    """
    with _staged(file) as local:
        lines: list[int] = []
        for condition, parameters in client.conditions():
            found = local.query(f"select line from landing_events where {condition}", parameters)
            lines += found.column(0).to_pylist()
        failed = local.query(
            "select source_line, payload from landing_failed where source_line not in (select line from landing_events)"
        ).to_pylist()
        lines += [row["source_line"] for row in failed if client.is_named_in(row["payload"] or "")]
        rows = number(local, "select count(*) from landing_events") + len(failed)
    return Trace(file, frozenset(lines), rows, len(lines))


def erased_copy(found: Trace, client: Client) -> tuple[Path, str]:
    """Write a file without the client beside it, under a hidden name; returns that and its digest.

    Raises:
        DataError: The copy is not what it has to be; it is removed.
    """
    path = found.file.path
    copy = path.with_name(f".erasing-{path.name}")
    without(found.file, set(found.lines), copy)
    written = replace(found.file, path=copy)
    after = trace(written, client)
    if after.theirs or after.rows != found.rows - found.theirs:
        copy.unlink()
        raise DataError(
            f"{found.file.name}: without its {found.theirs} rows of the client it would have {after.rows} of "
            f"{found.rows} rows, {after.theirs} of them the client's.",
            "Nothing was changed. Are its lines ended in different ways?",
        )
    return copy, digest(written)


@contextmanager
def _staged(file: LandingFile) -> Iterator[DuckDBSession]:
    """A DuckDB with a file's events in `landing_events`, and what cannot be read of it in `landing_failed`."""
    with scratch() as local:
        for mend in (False, True):
            clear_failed(local)
            try:
                with reading(local, file, _APART, mend) as rows:
                    if file.kind == "dead_letters":
                        _stage_letters(local)
                    else:
                        rows.judge("landing_events", judge.events)
                break
            except UnreadableText:
                if mend:
                    raise
        yield local


def _stage_letters(local: DuckDBSession) -> None:
    """Dead letters are texts, not events."""
    local.execute(
        """insert into landing_failed select '', line, '', '', '', json, null from landing_rows where json is not null;
        create temp table landing_events (line bigint, shop varchar, client_id varchar, session_id varchar)"""
    )
