"""DuckDB as the warehouse: one file on this machine, one process at a time."""

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import duckdb
import filelock

from boat.errors import BoatError, SettingError

if TYPE_CHECKING:
    import pyarrow as pa

LOCK_TIMEOUT_SECONDS = 600
_turns: "defaultdict[Path, threading.Lock]" = defaultdict(threading.Lock)
"""Of the threads of this process."""
_PREFIX = "duckdb:///"
_OPTIONS = ("memory_limit", "threads")


class DuckDBWarehouse:
    """A DuckDB file.

    DuckDB lets one process write and keeps readers of other processes out meanwhile, so processes take turns through a
    lock file beside the database; the threads of one process share the turn.

    Args:
        url: `duckdb:///relative/path` or `duckdb:////absolute/path`, with `?memory_limit=2GB&threads=2` where DuckDB's
            own choice (80 % of the memory, all cores) is too much, here or in dbt.

    Raises:
        SettingError: The URL names no file, or an option that is not one of the two.
    """

    dialect = "duckdb"

    def __init__(self, url: str) -> None:
        location, _, options = url.removeprefix(_PREFIX).partition("?")
        if not url.startswith(_PREFIX) or not location or location.startswith(":"):
            raise SettingError(
                f"{url!r} names no DuckDB file.", "Write duckdb:///relative/path or duckdb:////absolute/path."
            )
        self.path = Path(location).expanduser().absolute()
        self._options = dict(parse_qsl(options))
        if unknown := self._options.keys() - set(_OPTIONS):
            raise SettingError(f"{url!r} has the unknown option {min(unknown)!r}.", f"Use {' or '.join(_OPTIONS)}.")

    @contextmanager
    def exclusive(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Keep other processes out. Re-entrant in this process; the operating system frees it when the holder dies.

        Raises:
            BoatError: Another process held it all the time.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One lock object a path and process, whichever thread asks: a flow holds it while its tasks open sessions.
        lock = filelock.FileLock(f"{self.path}.lock", thread_local=False, is_singleton=True)
        try:
            held = lock.acquire(timeout=timeout_seconds)
        except filelock.Timeout as error:
            raise BoatError(
                f"Another process has kept the warehouse {self.path} busy for {timeout_seconds:g} s.",
                "Wait for the flow run that uses it, or stop it, and try again.",
            ) from error
        with held:
            yield

    @contextmanager
    def transaction(self) -> Iterator["DuckDBTransaction"]:
        """Open a connection in one transaction: committed at the end, rolled back on an error.

        Raises:
            BoatError: The file is in use by a program that does not take turns, or is no DuckDB file.
        """
        with self.exclusive(), ExitStack() as turn:
            connection = self._open()
            try:
                connection.begin()
                try:
                    yield DuckDBTransaction(connection, partial(turn.enter_context, _turns[self.path]))
                except BaseException:
                    with suppress(duckdb.Error):  # the error that came first is the one to show
                        connection.rollback()
                    raise
                connection.commit()
            finally:
                connection.close()

    def dbt_environment(self) -> Mapping[str, str]:
        limits = {f"BOAT_DUCKDB_{name.upper()}": value for name, value in {**_own_choice(), **self._options}.items()}
        return {"BOAT_DBT_TARGET": self.dialect, "BOAT_DUCKDB_PATH": str(self.path), **limits}

    def sqlalchemy_url(self) -> str:
        """`duckdb_buffered:///path`: see `boat.warehouse.buffered`, which this makes known to SQLAlchemy."""
        from boat.warehouse import buffered

        return buffered.url(self.path)

    def connect_arguments(self) -> Mapping[str, Any]:
        return {}

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(self.path)
        except duckdb.IOException as error:
            hint = "Is it a DuckDB file, readable and writable, on a disk with room?"
            if "lock" in str(error):
                hint = "Close the other program that has it open (a DuckDB shell, a notebook) and try again."
            raise BoatError(f"Cannot open the warehouse {self.path}: {error}", hint) from error
        # Set after opening: connections of one process to one file must agree on what is given at opening.
        connection.execute("set TimeZone = 'UTC'; set autoinstall_known_extensions = false")
        for name, value in self._options.items():
            connection.execute(f"set {name} = ?", [value])
        return connection


def _own_choice() -> dict[str, str]:
    """What DuckDB sets the options to by itself on this machine."""
    with duckdb.connect() as connection:
        return {
            name: str(connection.execute(f"select current_setting('{name}')").fetchall()[0][0]) for name in _OPTIONS
        }


class DuckDBTransaction:
    """An open DuckDB connection.

    Args:
        connection: In a transaction.
        wait_for_turn: Waits for the threads of this process; other processes are kept out already.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, wait_for_turn: Callable[[], object] = bool) -> None:
        self._connection, self._wait_for_turn = connection, wait_for_turn

    def lock(self) -> None:
        """Wait until no other session that took its turn is open; begins a transaction, which sees all before it."""
        self._wait_for_turn()
        self._connection.commit()
        self._connection.begin()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, list(parameters))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Rows of a query as Arrow; column names in lower case."""
        rows = self._connection.execute(sql, list(parameters)).to_arrow_table()
        return rows.rename_columns([name.lower() for name in rows.column_names])

    def export(self, sql: str, path: Path, order_by: Sequence[str] = ()) -> int:
        """Write a query's rows to one Parquet file in the order of these columns; returns the number of rows."""
        ordered = f"{sql}\norder by {', '.join(order_by)}" if order_by else sql
        self._connection.execute(f"copy ({ordered}) to ? (format parquet, compression zstd)", [str(path)])
        (rows,) = self._connection.fetchone() or (0,)
        return int(rows)

    def register(self, name: str, rows: "pa.RecordBatchReader") -> None:
        """Let queries read a stream of Arrow batches, once, under this name."""
        self._connection.register(name, rows)

    def scratch(self) -> AbstractContextManager["DuckDBTransaction"]:
        """This session itself: its temporary tables."""
        return nullcontext(self)

    def received(self, local: "DuckDBTransaction", sql: str) -> AbstractContextManager[str]:
        """The query itself: it is here already."""
        return nullcontext(f"({sql})")


@contextmanager
def scratch() -> Iterator[DuckDBTransaction]:
    """A DuckDB that lasts for a while, in a temporary folder so that it need not fit into memory."""
    with tempfile.TemporaryDirectory(prefix="boat-scratch-") as folder, duckdb.connect(f"{folder}/db") as connection:
        connection.execute("set TimeZone = 'UTC'; set autoinstall_known_extensions = false")
        yield DuckDBTransaction(connection)
