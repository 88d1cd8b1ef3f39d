"""Run dbt in forked processes that need not import it or parse the project: tests build about a hundred times."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.duckdb", "dbt.parser.manifest"])


_folder = tempfile.TemporaryDirectory(prefix="boat-parsed-")
_parsed = Path(_folder.name) / "partial_parse.msgpack"
"""The project as the first run has parsed it."""


def run(arguments: Sequence[str], environment: Mapping[str, str], target: Path, timeout: float) -> tuple[int, str]:
    """Run the `dbt` command in the folder of its target. Return its exit code and output.

    dbt parses the project again if a setting of the connection has changed. A DuckDB file is therefore named relative
    to that folder, so that all tests have the same connection, and use the parsed project of the first run.

    Raises:
        TimeoutError: The command took longer and was killed.
    """
    with tempfile.NamedTemporaryFile() as printed:
        words = [*arguments, "--target-path", str(target)]
        process = _SERVER.Process(target=_run_dbt, args=(words, _relative(environment, target.parent), printed.name))
        parsed = target / _parsed.name
        if _parsed.exists() and not parsed.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_parsed, parsed)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"dbt {' '.join(arguments)} has not ended after {timeout:g} s.")
        if parsed.exists() and not _parsed.exists():
            shutil.copyfile(parsed, _parsed)
        return process.exitcode, Path(printed.name).read_text()


def _relative(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment with the folder to run in, and the path of a DuckDB file relative to it."""
    path = environment.get("BOAT_DUCKDB_PATH")
    relative = {"BOAT_DUCKDB_PATH": os.path.relpath(path, folder)} if path else {}
    return {**environment, **relative, "PWD": str(folder)}


def _run_dbt(arguments: list[str], environment: dict[str, str], printed: str) -> None:
    file = os.open(printed, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(environment["PWD"])
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import cli

    try:
        cli(arguments)
    finally:  # a forked process skips the exit handlers, and the last writes would remain in the WAL file
        DuckDBConnectionManager.close_all_connections()
