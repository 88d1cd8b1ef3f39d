"""The warehouse seam: the operations that Boat needs of a database, which is chosen by URL."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from boat.backends import Backend, construct

if TYPE_CHECKING:
    import pyarrow as pa

    from boat.warehouse.duckdb import DuckDBTransaction


class Warehouse(Protocol):
    """A database with the raw log and the tables that dbt builds from it."""

    dialect: str
    """`duckdb` or `snowflake`. It is also the name of the dbt target."""

    @property
    def spill_folder(self) -> Path | None:
        """Return the folder of the spill files; `None` if the database is not on this machine."""

    def transaction(self) -> AbstractContextManager["Transaction"]:
        """Open a connection in a transaction, which is committed at the end or rolled back after an error."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Lock the database for this process while a tool (dbt, Great Expectations) works on it.

        The operating system releases the lock if the process dies. A database with many writers needs no lock.
        """

    def publish_copy(self) -> Path | None:
        """Copy the database for programs that read, and return the copy. `None` if readers never block writers."""

    def renew_copies(self) -> None:
        """Replace all copies by one of the current content, because rows were erased."""

    def dbt_environment(self) -> Mapping[str, str]:
        """Return the environment variables for `dbt/profiles.yml`, such as `BOAT_DBT_TARGET`."""

    def sqlalchemy_url(self) -> str:
        """Return the SQLAlchemy URL for Great Expectations. It holds no secrets."""

    def connect_arguments(self) -> Mapping[str, Any]:
        """Return SQLAlchemy's `connect_args`, which include secrets."""


class Transaction(Protocol):
    """An open connection in a transaction. Statements are in the warehouse's SQL, with `?` for parameters."""

    def lock(self) -> None:
        """Wait until no other transaction holds the lock. Later statements see all that was committed before.

        Lock before reading, if only missing rows are inserted: two transactions that read at once would both insert
        them. Earlier statements of this transaction are committed. The lock is released at the end of the transaction.
        """

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None: ...

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Return the rows of a query as an Arrow table with column names in lower case."""

    def watched(self, report: Callable[[float], None]) -> AbstractContextManager[None]:
        """Pass on the part of the block's statements that is done, from 0 to 1, if the database knows it."""

    def export(self, sql: str, path: Path, order_by: Sequence[str]) -> int:
        """Write the rows of a query to a Parquet file, sorted by `order_by`. Return the number of rows.

        The same rows give the same bytes in every warehouse.
        """

    def scratch(self) -> AbstractContextManager["DuckDBTransaction"]:
        """Open a DuckDB to read and validate files in, before their rows are uploaded."""

    def upload(self, local: "DuckDBTransaction", sql: str) -> AbstractContextManager[str]:
        """Upload the rows of a query on the scratch DuckDB, and return a relation to select them from."""


_BACKENDS = {
    "duckdb": Backend("boat.warehouse.duckdb", "DuckDBWarehouse", "pip install 'boat[warehouse]'"),
    "snowflake": Backend("boat.warehouse.snowflake", "from_url", "pip install 'boat[flows]'"),
}


def connect(url: str) -> Warehouse:
    """Return the warehouse of a URL: `duckdb:////absolute/path.duckdb` or `snowflake://CONNECTION`. Do not connect yet.

    Raises:
        SettingError: Unknown protocol, or its package is not installed.
    """
    warehouse: Warehouse = construct("warehouse", "boat.warehouses", url, _BACKENDS)
    return warehouse
