"""Build the marts from the raw log with dbt. Without Prefect: `dbt build --project-dir dbt --profiles-dir dbt`."""

import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from boat import memory, progress, settings, store
from boat.errors import BoatError, DataError, ended
from boat.transform import dbt, lineage, loads
from boat.transform.dbt import Freshness, NodeResult
from boat.transform.lineage import Graph
from boat.warehouse import Warehouse
from tasks import checked
from tasks.blocks import Platform
from tasks.checked import PROJECT
from tasks.measured import measured

if TYPE_CHECKING:
    from prefect_dbt.cli.commands import DbtCoreOperation

_BUILT_FROM = "dbt-manifest-digest"
_LINEAGE = "dbt-lineage.json"
_DOCS, _DOCS_DIGEST = "dbt.html", "dbt.digest"


@task(task_run_name="dbt build", tags=["warehouse"])
@measured
def build_warehouse(platform: Platform, full_refresh: bool = False) -> tuple[NodeResult, ...]:
    """Build all models with their data tests, and publish the result of each node.

    Unit tests are left out: their input is fixed, so their result changes only with the models.

    Args:
        platform: Installation with the warehouse.
        full_refresh: Rebuild every table. This is needed if rows of the raw log were replaced or erased. The first
            build does it too, also after a first build that was stopped.

    Raises:
        TransformError: A node failed. The message names each failed node and the file with its SQL.
    """
    target = _target(platform)
    shutil.rmtree(target / "run", ignore_errors=True)
    (target / "run_results.json").unlink(missing_ok=True)  # a build that fails early must not publish old results
    warehouse = platform.warehouse
    if full_refresh:
        checked.forget(platform)
    full_refresh = full_refresh or not loads.read(warehouse).built
    command = "build --exclude-resource-type unit_test"
    operation = _dbt(warehouse, target, f"{command} --full-refresh" if full_refresh else command)
    exit_error: RuntimeError | None = None
    with warehouse.exclusive():
        try:
            with progress.polled(dbt.RunningBuild(_logs(target) / "dbt.log").report):
                operation.run()
        except RuntimeError as error:  # its message is only that the shell command failed
            exit_error = error
            _raise_if_killed(error)
    results = dbt.read_results(target)
    create_table_artifact(
        key="dbt-nodes", description="Results of the dbt build, by node", table=dbt.rows_table(results)
    )
    failure = dbt.failure(results) or exit_error
    if failure:
        raise failure
    store.publish_bytes(dbt.manifest_digest(target).encode(), store.join(platform.store, _BUILT_FROM))
    tables = lineage.to_json(lineage.of_dbt(target))
    store.publish_bytes(tables.encode(), store.join(platform.store, _LINEAGE))
    return results


def _raise_if_killed(error: RuntimeError) -> None:
    """Raise an error that names the signal which ended dbt, if one did."""
    code = re.search(r"return code (\d+)", str(error))
    if code and int(code[1]) > 128:
        raise BoatError(
            f"dbt build {ended(int(code[1]))}.",
            "Retry: the loads of this build are still pending. If the memory was full, set BOAT_MEMORY to less than "
            f"{memory.shown(settings.memory())}.",
        ) from error


@task(task_run_name="publish a copy for readers", tags=["warehouse"])
def publish_copy(platform: Platform) -> None:
    """Publish a copy of the warehouse for notebooks and BI tools, if they would block the flows otherwise."""
    copy = platform.warehouse.publish_copy()
    if copy:
        create_markdown_artifact(
            key="warehouse-copy", description="Copy of the warehouse to read", markdown=f"`{copy}`, the newest copy."
        )


@task(task_run_name="check freshness", tags=["warehouse"])
def check_freshness(platform: Platform) -> tuple[Freshness, ...]:
    """Check the age of the newest load, and warn if it is too old. An old source does not stop the flow."""
    target = _target(platform)
    (target / "sources.json").unlink(missing_ok=True)
    warehouse = platform.warehouse
    with warehouse.exclusive(), suppress(RuntimeError):  # dbt exits with an error if a source is old
        _dbt(warehouse, target, "source freshness").run()
    sources = dbt.read_freshness(target)
    for source in sources:
        if source.status != "pass":
            get_run_logger().warning(
                "%s has had no new data for %.1f hours. Check that files arrive.", source.source, source.hours
            )
    create_table_artifact(
        key="freshness",
        description="Time since the newest data of each source",
        table=[{**asdict(source), "hours": round(source.hours, 1)} for source in sources],
    )
    return sources


@task(task_run_name="publish dbt docs", tags=["warehouse"])
def publish_docs(platform: Platform) -> None:
    """Publish dbt's documentation as one page. It is generated only if the models have changed."""
    published, current = store.join(platform.reports, _DOCS_DIGEST), manifest_digest(platform)
    with platform.reporting() as folder:
        page = folder / _DOCS
        if not store.exists(published) or store.read_text(published) != current:
            target = _target(platform)  # the build has parsed the project already
            warehouse = platform.warehouse
            with warehouse.exclusive():
                _dbt(warehouse, target, "docs generate --static").run()
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(target / "static_index.html", page)
            (folder / _DOCS_DIGEST).write_text(current)
        link = platform.report_link(page, folder)
    create_link_artifact(
        link, link_text="dbt documentation", key="dbt-docs", description="Tables and columns of the warehouse"
    )


def _dbt(warehouse: Warehouse, target: Path, command: str) -> "DbtCoreOperation":
    from prefect_dbt.cli.commands import DbtCoreOperation  # takes seconds: only flows that build import it

    executable = shlex.quote(str(Path(sys.executable).with_name("dbt")))
    return DbtCoreOperation(
        commands=[f"{executable} --no-use-colors {command}"],
        # The block joins both paths into a shell line without quotes. Relative paths have no spaces.
        project_dir=os.path.relpath(PROJECT),
        profiles_dir=os.path.relpath(PROJECT),
        env={
            **warehouse.dbt_environment(),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(_logs(target)),
        },
    )


def _target(platform: Platform) -> Path:
    """Return dbt's folder of a platform. In a new one, dbt does not parse again what it has parsed in another."""
    target = settings.load().dbt_target(platform.name)
    parsed = target / "partial_parse.msgpack"
    if not parsed.exists():
        others = target.parent.parent.glob(f"*/{target.name}/{parsed.name}")
        newest = max(others, key=lambda path: path.stat().st_mtime, default=None)
        target.mkdir(parents=True, exist_ok=True)
        if newest:
            shutil.copy(newest, parsed)
    return target


def _logs(target: Path) -> Path:
    return target.parent / "logs"


def manifest_digest(platform: Platform) -> str:
    """Return the digest of the dbt project that built the tables. It is in the store: runs may change machines.

    Raises:
        DataError: The tables have not been built yet.
    """
    uri = store.join(platform.store, _BUILT_FROM)
    if not store.exists(uri):
        raise DataError(f"The tables have not been built yet: {uri} is missing.", "Run ingestion/hourly first.")
    return store.read_text(uri)


def training_tables(platform: Platform, endpoint: str) -> Graph:
    """Return the tables from which dbt builds the training examples of an endpoint. Empty before the first build."""
    uri = store.join(platform.store, _LINEAGE)
    graph = lineage.from_json(store.read_text(uri)) if store.exists(uri) else {}
    return lineage.before(graph, lineage.exposure(graph, endpoint))
