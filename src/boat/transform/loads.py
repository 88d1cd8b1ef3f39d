"""Which loads of the ledger are in the tables, and which of them the last build added."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from boat.warehouse import Transaction, Warehouse

_SOURCES = ("*.sql", "*.yml", "*.csv", "*.py")


@dataclass(frozen=True)
class Loads:
    """Ids of loads.

    Attributes:
        ledger: Loads of the raw log.
        built: Loads that every table contains. Empty before the first complete build.
        newest: Loads that the last build began with.
    """

    ledger: frozenset[str]
    built: frozenset[str]
    newest: frozenset[str]

    @property
    def are_built(self) -> bool:
        """Return whether every table contains every load."""
        return bool(self.built) and self.ledger <= self.built


def read(warehouse: Warehouse) -> Loads:
    """Read the loads of a warehouse. Tables that do not exist have no loads."""
    with warehouse.transaction() as transaction:
        rows = transaction.query(
            "select lower(table_schema) || '.' || lower(table_name) as name from information_schema.tables"
        )
        tables = set(rows["name"].to_pylist())
        return Loads(
            ledger=_ids(transaction, "raw.loads", tables),
            built=_ids(transaction, "intermediate.int_loads_built", tables),
            newest=_ids(transaction, "intermediate.int_loads_pending", tables),
        )


def digest(load_ids: Iterable[str]) -> str:
    """Return the SHA-256 of a set of loads."""
    return hashlib.sha256("\n".join(sorted(load_ids)).encode()).hexdigest()


def digest_of_sources(*folders: Path) -> str:
    """Return the SHA-256 of the files that define tables and checks."""
    content = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for pattern in _SOURCES for path in folder.rglob(pattern)):
            if not {"target", "logs"} & set(path.relative_to(folder).parts):
                content.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return content.hexdigest()


def _ids(transaction: Transaction, table: str, tables: set[str]) -> frozenset[str]:
    if table not in tables:
        return frozenset()
    return frozenset(transaction.query(f"select distinct load_id from {table}")["load_id"].to_pylist())
