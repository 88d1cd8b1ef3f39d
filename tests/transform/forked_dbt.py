"""Run dbt in forked processes that do not have to import it, because tests build about a hundred times."""

import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.duckdb", "dbt.parser.manifest"])


def run(arguments: Sequence[str], environment: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run the `dbt` command. Return its exit code and output.

    Raises:
        TimeoutError: The command took longer and was killed.
    """
    with tempfile.NamedTemporaryFile() as printed:
        process = _SERVER.Process(target=_run_dbt, args=(list(arguments), dict(environment), printed.name))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"dbt {' '.join(arguments)} has not ended after {timeout:g} s.")
        return process.exitcode, Path(printed.name).read_text()


def _run_dbt(arguments: list[str], environment: dict[str, str], printed: str) -> None:
    file = os.open(printed, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import cli

    try:
        cli(arguments)
    finally:  # a forked process skips the exit handlers, and the last writes would remain in the WAL file
        DuckDBConnectionManager.close_all_connections()
