"""The report of `boat erase`: every searched location, with rows of the client before and after."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime

from boat.raw_log.traces import Client

NOT_LOOKED_AT = (
    "tables that have neither a column `shop` nor a column `session_key`",
    ".boat/cache: copies of snapshots; delete the folder",
    "models: they contain products, not clients; their training data is in the snapshots",
    "endpoint answers and their logs: they contain products, not clients",
    "reports and KPI pages: they contain totals, not ids",
    "run logs of Prefect, and backups",
)
NOT_LOOKED_AT_OF = {
    "duckdb": (
        "free blocks of the DuckDB file: deleted values stay in them until they are overwritten; to remove them, "
        "copy the database (ATTACH and COPY FROM DATABASE) and delete the old file",
        "copies of the DuckDB file that another program has still open: they are replaced, and end with that program",
    ),
    "snowflake": ("Snowflake's Time Travel and Fail-safe: deleted rows stay until the end of their retention time",),
}


@dataclass(frozen=True)
class Location:
    """Number of rows of a client in one location, before and after.

    `kind` is `file`, `old version` (of a file in a bucket), `table` or `snapshot`.
    """

    kind: str
    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Note:
    """A location that needs attention.

    Attributes:
        kind: As in `Location`.
        name: Name of the location; a table has the column after it.
        rows: Number of rows or lines; 0 if they were not counted.
        text: Reason, and the next step.
    """

    kind: str
    name: str
    rows: int
    text: str


@dataclass(frozen=True)
class Searched:
    """Every location that was searched.

    Attributes:
        landing: The landing folder.
        files: Number of its files that can contain clients, including old versions.
        other_files: Number of its other files: catalogues, hidden files and files of unknown types.
        tables: Tables with clients, sessions or shops.
        snapshots: The folder of snapshots.
        snapshot_names: Snapshots in it.
    """

    landing: str
    files: int
    other_files: int
    tables: tuple[str, ...]
    snapshots: str
    snapshot_names: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """The result of an erasure, or of a dry run.

    Attributes:
        client: SHA-256 of shop and client id. It does not reveal the client, but can be compared with a known id.
        at: Time, UTC.
        dry_run: Whether nothing was changed.
        found: Whether a row of the client was found.
        searched: Searched locations.
        locations: Locations with rows of the client.
        growing: Files with the client that the collector still writes. Erase again when they are complete.
        not_erased: Files that contain the id and are not rewritten.
        not_searched: Locations that may contain the id and could not be read.
        mentions: Rows with the id that are not erased: it is not a client's id there, or the client is not certain.
        linked_clients: Number of other client ids of the shop with rows that name this client. Their other rows stay.
        not_looked_at: Locations that are never searched.
    """

    client: str
    at: datetime
    dry_run: bool
    found: bool
    searched: Searched
    locations: tuple[Location, ...]
    growing: tuple[str, ...]
    not_erased: tuple[Note, ...]
    not_searched: tuple[Note, ...]
    mentions: tuple[Note, ...]
    linked_clients: int
    not_looked_at: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Return whether no row is left and every location that can contain clients was searched."""
        open_ends = (self.growing, self.not_erased, self.not_searched)
        return not any(open_ends) and all(location.after == 0 for location in self.locations)

    def to_json(self) -> str:
        """Return JSON. Its `digest` is the SHA-256 of the other fields, as JSON with sorted keys and no blanks."""
        content = {**asdict(self), "is_complete": self.is_complete, "at": self.at.isoformat()}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return json.dumps(content | {"digest": digest}, indent=2) + "\n"


def fingerprint(client: Client) -> str:
    """Return the SHA-256 of shop and client id."""
    return hashlib.sha256(json.dumps([client.shop, client.client_id]).encode()).hexdigest()
