"""DuckDB as the warehouse: one file on this machine, one process at a time."""

import math
import os
import shutil
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

from boat import progress, settings
from boat.errors import BoatError, SettingError

if TYPE_CHECKING:
    import pyarrow as pa

LOCK_TIMEOUT_SECONDS = 600
_thread_locks: "defaultdict[Path, threading.Lock]" = defaultdict(threading.Lock)
"""Lock of each database between the threads of this process."""
_PREFIX = "duckdb:///"
_OPTIONS = ("memory_limit", "threads", "max_temp_directory_size")
_PYTHON_BYTES, _LEAST_SHARE = 1_500_000_000, 0.5
"""Memory of the flow, of dbt and of the services, and DuckDB's part of a budget that is too small for them."""
_SPILL_SHARE = 0.8
"""Part of the free disk for what does not fit into DuckDB's memory."""


def of_duckdb(budget: int) -> int:
    """Return DuckDB's part of a memory budget, in bytes."""
    return max(budget - _PYTHON_BYTES, int(budget * _LEAST_SHARE))


def limited(url: str, budget: int) -> str:
    """Return the URL of a warehouse with DuckDB's share of a memory budget in bytes, unless it has its own limit."""
    if not url.startswith(_PREFIX) or "memory_limit=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}memory_limit={_mebibytes(of_duckdb(budget))}"


class DuckDBWarehouse:
    """A DuckDB file.

    While a process writes to a DuckDB file, other processes cannot even read it. Processes take turns with a lock file
    next to the database. The threads of a process share the lock.

    Args:
        url: `duckdb:///relative/path` or `duckdb:////absolute/path`. Options limit DuckDB, here, in dbt and in Great
            Expectations: `?memory_limit=2GB` (default `of_duckdb`), `threads=2` (default all cores), and
            `max_temp_directory_size=50GB` for the folder `FILE.tmp`, into which DuckDB writes what does not fit into
            memory (default up to 80 % of the free disk).

    Raises:
        SettingError: The URL has no file name, or an unknown option.
    """

    dialect = "duckdb"

    def __init__(self, url: str) -> None:
        location, _, options = url.removeprefix(_PREFIX).partition("?")
        if not url.startswith(_PREFIX) or not location or location.startswith(":"):
            raise SettingError(
                f"The warehouse URL {url!r} has no file name.",
                "Write duckdb:///relative/path or duckdb:////absolute/path.",
            )
        self.path = Path(location).expanduser().absolute()
        chosen = dict(parse_qsl(options))
        if unknown := chosen.keys() - set(_OPTIONS):
            raise SettingError(
                f"The warehouse URL {url!r} has the unknown option {min(unknown)!r}.", f"Use {', '.join(_OPTIONS)}."
            )
        self._options = {**_limits(self.path.parent), **chosen}

    @contextmanager
    def exclusive(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Lock the file for this process. The lock is re-entrant, and released by the system if the process dies.

        Raises:
            BoatError: Another process has held the lock for the whole time-out.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One lock object per path for all threads: a flow holds it while its tasks open transactions.
        lock = filelock.FileLock(f"{self.path}.lock", thread_local=False, is_singleton=True)
        try:
            held = lock.acquire(timeout=timeout_seconds)
        except filelock.Timeout as error:
            raise BoatError(
                f"Another process has locked the warehouse {self.path} for {timeout_seconds:g} s.",
                "Wait for the flow run that uses it, or cancel that run, and retry.",
            ) from error
        with held:
            yield

    @contextmanager
    def transaction(self) -> Iterator["DuckDBTransaction"]:
        """Open a connection in a transaction, which is committed at the end or rolled back after an error.

        Raises:
            BoatError: Another program has the file open without the lock, or it is not a DuckDB file.
        """
        with self.exclusive(), ExitStack() as stack:
            connection = self._open()
            try:
                connection.begin()
                try:
                    yield DuckDBTransaction(connection, partial(stack.enter_context, _thread_locks[self.path]))
                except BaseException:
                    with suppress(duckdb.Error):  # the first error is the one to show
                        connection.rollback()
                    raise
                connection.commit()
            finally:
                connection.close()

    @property
    def spill_folder(self) -> Path:
        """Return the folder of DuckDB's spill files."""
        return self.path.with_name(f"{self.path.name}.tmp")

    @property
    def copies(self) -> Path:
        """Return the folder of the copies for programs that read: `FILE.copies/000001.duckdb` and so on."""
        return self.path.with_name(f"{self.path.name}.copies")

    def renew_copies(self) -> None:
        """Replace all copies by one of the current content, because rows were erased."""
        if self.copies.exists():
            self.publish_copy(keep=1)

    def publish_copy(self, keep: int = 2) -> Path:
        """Copy the file for programs that read, and return the copy. The `keep` newest copies stay.

        A program that has the file itself open would stop every load. Each copy has a new number, because DuckDB keeps
        an open file by its name. A program that still reads a deleted copy is not disturbed.

        Raises:
            BoatError: The disk is full.
        """
        with self.exclusive():
            self._open().close()  # writes what is still in the log beside the file
            self.copies.mkdir(exist_ok=True)
            numbers = sorted(self.copies.glob("[0-9]*.duckdb"))
            number = int(numbers[-1].stem) + 1 if numbers else 1
            copy = self.copies / f"{number:06}.duckdb"
            unfinished = copy.with_suffix(".unfinished")
            try:
                shutil.copyfile(self.path, unfinished)
                unfinished.rename(copy)
            except OSError as error:
                unfinished.unlink(missing_ok=True)
                raise BoatError(
                    f"Cannot copy the warehouse to {copy}: {error}.", "Free space on the disk, then run the flow again."
                ) from error
        for old in numbers[: len(numbers) + 1 - keep]:
            old.unlink()
        return copy

    def dbt_environment(self) -> Mapping[str, str]:
        limits = {f"BOAT_DUCKDB_{name.upper()}": value for name, value in self._options.items()}
        return {"BOAT_DBT_TARGET": self.dialect, "BOAT_DUCKDB_PATH": str(self.path), **limits}

    def sqlalchemy_url(self) -> str:
        """Return `duckdb_buffered:///path` and register that dialect; see `boat.warehouse.buffered`."""
        from boat.warehouse import buffered

        return buffered.url(self.path)

    def connect_arguments(self) -> Mapping[str, Any]:
        return {"settings": self._options}

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            connection = duckdb.connect(self.path)
        except duckdb.IOException as error:
            hint = "Check that it is a DuckDB file, that you may write to it, and that the disk is not full."
            if "lock" in str(error):
                hint = "Close the other program that has it open (a DuckDB shell, a notebook) and retry."
            raise BoatError(f"Cannot open the warehouse {self.path}: {error}", hint) from error
        # Set after opening: all connections of a process to a file must be opened with the same configuration.
        _configure(connection, self._options)
        return connection


def _configure(connection: duckdb.DuckDBPyConnection, options: Mapping[str, str]) -> None:
    connection.execute("set TimeZone = 'UTC'; set autoinstall_known_extensions = false")
    connection.execute("set enable_progress_bar = true; set enable_progress_bar_print = false")  # for `watched`
    for name, value in options.items():
        connection.execute(f"set {name} = ?", [value])


def _limits(folder: Path) -> dict[str, str]:
    """Return the default of each option on this machine, with the spill folder on the disk of `folder`."""
    while not folder.exists():
        folder = folder.parent
    return {
        "memory_limit": _mebibytes(of_duckdb(settings.memory())),
        "threads": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
        # A power of two, because dbt parses the project again if a limit has changed.
        "max_temp_directory_size": _mebibytes(2 ** int(math.log2(shutil.disk_usage(folder).free * _SPILL_SHARE))),
    }


def _mebibytes(size: float) -> str:
    return f"{int(size / 2**20)}MiB"


class DuckDBTransaction:
    """An open DuckDB connection.

    Args:
        connection: Connection in a transaction.
        acquire_lock: Waits for the other threads of this process. Other processes are already locked out.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, acquire_lock: Callable[[], object] = bool) -> None:
        self._connection, self._acquire_lock = connection, acquire_lock

    def lock(self) -> None:
        """Wait until no other transaction holds the lock, then begin a transaction that sees all earlier ones."""
        self._acquire_lock()
        self._connection.commit()
        self._connection.begin()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        with self._naming_limits():
            self._connection.execute(sql, list(parameters))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> "pa.Table":
        """Return the rows of a query as an Arrow table with column names in lower case."""
        with self._naming_limits():
            rows = self._connection.execute(sql, list(parameters)).to_arrow_table()
        return rows.rename_columns([name.lower() for name in rows.column_names])

    def export(self, sql: str, path: Path, order_by: Sequence[str] = ()) -> int:
        """Write the rows of a query to a Parquet file, sorted by `order_by`. Return the number of rows."""
        ordered = f"{sql}\norder by {', '.join(order_by)}" if order_by else sql
        with self._naming_limits():
            self._connection.execute(f"copy ({ordered}) to ? (format parquet, compression zstd)", [str(path)])
        (rows,) = self._connection.fetchone() or (0,)
        return int(rows)

    @contextmanager
    def watched(self, report: Callable[[float], None]) -> Iterator[None]:
        """Pass on the part of the block's statements that is done, from 0 to 1, about once a second."""
        most = 0.0

        def poll() -> None:
            nonlocal most
            most = max(most, self._connection.query_progress() / 100)  # below 0 between two statements
            report(most)

        with progress.polled(poll):
            yield

    @contextmanager
    def _naming_limits(self) -> Iterator[None]:
        """Name the limits if a statement needs more memory and disk than they allow."""
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            sql = "select current_setting('memory_limit'), current_setting('max_temp_directory_size')"
            memory_limit, disk_limit = self._connection.cursor().execute(sql).fetchone() or ("", "")
            raise SettingError(
                f"DuckDB needs more than {memory_limit} of memory and {disk_limit} of disk ({_first_line(error)}).",
                "Increase BOAT_MEMORY, or free disk space, or add memory_limit=… and max_temp_directory_size=… to the "
                "warehouse URL. Larger shops use Snowflake: see docs/scale.md.",
            ) from error

    def register(self, name: str, rows: "pa.RecordBatchReader") -> None:
        """Register a stream of Arrow batches under a name. It can be read once."""
        self._connection.register(name, rows)

    def scratch(self) -> AbstractContextManager["DuckDBTransaction"]:
        """Return this transaction: its temporary tables are the scratch space."""
        return nullcontext(self)

    def upload(self, local: "DuckDBTransaction", sql: str) -> AbstractContextManager[str]:
        """Return the query as a relation: its rows are already in this database."""
        return nullcontext(f"({sql})")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("Out of Memory Error: ").rstrip(".")


@contextmanager
def scratch() -> Iterator[DuckDBTransaction]:
    """Open a temporary DuckDB. It is on disk, so that it need not fit into memory."""
    with tempfile.TemporaryDirectory(prefix="boat-scratch-") as folder, duckdb.connect(f"{folder}/db") as connection:
        _configure(connection, _limits(Path(folder)))
        yield DuckDBTransaction(connection)
