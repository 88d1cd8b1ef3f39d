"""The warehouse seam: what Boat needs of a database, and how one is chosen by URL."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boat.backends import Backend, construct

if TYPE_CHECKING:
    import pyarrow as pa

    from boat.warehouse.duckdb import DuckDBTransaction


class Warehouse(Protocol):
    """A database that holds the raw log and, built by dbt, everything after it."""

    dialect: str
    """`duckdb` or `snowflake`: also the dbt target's name."""

    def transaction(self) -> AbstractContextManager["Transaction"]:
        """Open a connection for a few statements, in one transaction: committed at the end, rolled back on an error."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes out while a tool of its own (dbt, Great Expectations) works on the database.

        Released by the operating system when the holder dies. Nothing to do where the database takes many writers.
        """

    def dbt_environment(self) -> Mapping[str, str]:
        """Environment variables that `dbt/profiles.yml` reads; `BOAT_DBT_TARGET` among them."""

    def sqlalchemy_url(self) -> str:
        """URL under which Great Expectations pushes its queries down. Holds no secret."""

    def connect_arguments(self) -> Mapping[str, Any]:
        """What SQLAlchemy needs beside the URL, secrets among it: its `connect_args`."""


class Transaction(Protocol):
    """An open connection. Statements are the warehouse's own SQL; parameters are positional `?`."""

    def lock(self) -> None:
        """Wait until no other session that took its turn is open, and then see all that those have committed.

        Who adds what is not there yet takes it before the first look: two who look at the same time would both add it.
        What the session did before is committed. Its end gives the turn back.
        """

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None: ...

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Rows of a query as Arrow; column names in lower case."""

    def export(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        """Write a query's rows to one Parquet file in the order of these columns; returns the number of rows.

        The same rows give the same bytes, whatever the warehouse.
        """

    def scratch(self) -> AbstractContextManager["DuckDBTransaction"]:
        """A DuckDB to read and judge files with before their rows are received: this one, or one on this machine."""

    def received(self, local: "DuckDBTransaction", sql: str) -> AbstractContextManager[str]:
        """The rows of a query on the scratch DuckDB, as a relation that a statement of this session can select from."""


_BACKENDS = {
    "duckdb": Backend("boat.warehouse.duckdb", "DuckDBWarehouse", "pip install 'boat[warehouse]'"),
    "snowflake": Backend("boat.warehouse.snowflake", "from_url", "pip install 'boat[flows]'"),
}


def connect(url: str) -> Warehouse:
    """The warehouse behind a URL: `duckdb:////absolute/path.duckdb`, `snowflake://CONNECTION`. Opens nothing yet.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    warehouse: Warehouse = construct("warehouse", "boat.warehouses", url, _BACKENDS)
    return warehouse
