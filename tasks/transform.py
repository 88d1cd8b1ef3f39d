"""From the raw log to the marts. Without Prefect: `dbt build --project-dir dbt --profiles-dir dbt`."""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact

from boat import settings, store
from boat.errors import DataError
from boat.transform import dbt, lineage
from boat.transform.dbt import Freshness, NodeResult
from boat.transform.lineage import Graph
from boat.warehouse import Warehouse
from tasks.blocks import Platform

if TYPE_CHECKING:
    from prefect_dbt.cli.commands import DbtCoreOperation

PROJECT = Path(__file__).parent.parent / "dbt"
_BUILT_FROM = "dbt-manifest-digest"
_LINEAGE = "dbt-lineage.json"
_DOCS, _DOCS_MADE_FROM = "dbt.html", "dbt.digest"


@task(task_run_name="dbt build", tags=["warehouse"])
def build_warehouse(platform: Platform, full_refresh: bool = False) -> tuple[NodeResult, ...]:
    """Run all models with their tests, and show how each node did.

    Args:
        platform: Where the warehouse is.
        full_refresh: Make every table anew, as when rows of the raw log were replaced or erased.

    Raises:
        TransformError: Names each node that failed, with the file of its SQL.
    """
    target = settings.load().dbt_target
    shutil.rmtree(target / "run", ignore_errors=True)
    (target / "run_results.json").unlink(missing_ok=True)  # a run that stops early must not show the last one's results
    warehouse = platform.warehouse
    operation = _dbt(warehouse, target, "build --full-refresh" if full_refresh else "build")
    stopped: RuntimeError | None = None
    with warehouse.exclusive():
        try:
            operation.run()
        except RuntimeError as error:  # says only that the shell command failed
            stopped = error
    results = dbt.read_results(target)
    create_table_artifact(key="dbt-nodes", description="Nodes of the dbt build", table=dbt.rows_table(results))
    failure = dbt.failure(results) or stopped
    if failure:
        raise failure
    store.publish_bytes(dbt.manifest_digest(target).encode(), store.join(platform.store, _BUILT_FROM))
    tables = lineage.to_json(lineage.of_dbt(target))
    store.publish_bytes(tables.encode(), store.join(platform.store, _LINEAGE))
    return results


@task(task_run_name="check freshness", tags=["warehouse"])
def check_freshness(platform: Platform) -> tuple[Freshness, ...]:
    """Ask when the newest file was loaded, and warn where that is too long ago. An old source stops nothing."""
    target = settings.load().dbt_target
    (target / "sources.json").unlink(missing_ok=True)
    warehouse = platform.warehouse
    with warehouse.exclusive(), suppress(RuntimeError):  # an old source ends dbt with an error
        _dbt(warehouse, target, "source freshness").run()
    sources = dbt.read_freshness(target)
    for source in sources:
        if source.status != "pass":
            get_run_logger().warning(
                "Nothing new in %s for %.1f hours: do files still arrive?", source.source, source.hours
            )
    create_table_artifact(
        key="freshness",
        description="How long ago something new came",
        table=[{**asdict(source), "hours": round(source.hours, 1)} for source in sources],
    )
    return sources


@task(task_run_name="publish dbt docs", tags=["warehouse"])
def publish_docs(platform: Platform) -> None:
    """Link dbt's documentation, one page; it is made anew when the models are others than last time."""
    known, made_from = store.join(platform.reports, _DOCS_MADE_FROM), built_from(platform)
    with platform.reporting() as folder:
        page = folder / _DOCS
        if not store.exists(known) or store.read_text(known) != made_from:
            target = settings.load().dbt_target  # what the build has parsed is not parsed again
            warehouse = platform.warehouse
            with warehouse.exclusive():
                _dbt(warehouse, target, "docs generate --static").run()
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(target / "static_index.html", page)
            (folder / _DOCS_MADE_FROM).write_text(made_from)
        link = platform.report_link(page, folder)
    create_link_artifact(link, link_text="Models and columns", key="dbt-docs", description="dbt's documentation")


def _dbt(warehouse: Warehouse, target: Path, command: str) -> "DbtCoreOperation":
    from prefect_dbt.cli.commands import DbtCoreOperation  # seconds, which flows that build nothing need not spend

    dbt_itself = shlex.quote(str(Path(sys.executable).with_name("dbt")))
    return DbtCoreOperation(
        commands=[f"{dbt_itself} --no-use-colors {command}"],
        # The block joins the two into a shell line without quotes: relative paths hold no spaces.
        project_dir=os.path.relpath(PROJECT),
        profiles_dir=os.path.relpath(PROJECT),
        env={
            **warehouse.dbt_environment(),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target.parent / "logs"),
        },
    )


def built_from(platform: Platform) -> str:
    """Digest of the dbt project that built a platform's tables: a later run may be on another machine.

    Raises:
        DataError: Nothing has been built there yet.
    """
    uri = store.join(platform.store, _BUILT_FROM)
    if not store.exists(uri):
        raise DataError("The tables of this platform have not been built yet.", "Run ingestion/hourly first.")
    return store.read_text(uri)


def tables_behind(platform: Platform, endpoint: str) -> Graph:
    """What dbt makes an endpoint's training examples from; empty where that is not known."""
    uri = store.join(platform.store, _LINEAGE)
    graph = lineage.from_json(store.read_text(uri)) if store.exists(uri) else {}
    return lineage.before(graph, lineage.exposure(graph, endpoint))
