"""From the raw log to the marts. Without Prefect: `dbt build --project-dir dbt --profiles-dir dbt`."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect_dbt.cli.commands import DbtCoreOperation

from boat import dbt, lineage, settings, store
from boat.dbt import NodeResult
from boat.errors import DataError
from boat.lineage import Graph
from tasks.blocks import Platform

PROJECT = Path(__file__).parent.parent / "dbt"
_BUILT_FROM = "dbt-manifest-digest"
_LINEAGE = "dbt-lineage.json"


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
    command = f"{shlex.quote(str(Path(sys.executable).with_name('dbt')))} --no-use-colors build"
    operation = DbtCoreOperation(
        commands=[f"{command} --full-refresh" if full_refresh else command],
        # The block joins the two into a shell line without quotes: relative paths hold no spaces.
        project_dir=os.path.relpath(PROJECT),
        profiles_dir=os.path.relpath(PROJECT),
        env={
            **warehouse.dbt_environment(),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target.parent / "logs"),
        },
    )
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
