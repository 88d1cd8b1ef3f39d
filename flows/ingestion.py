"""Load new shopper events every hour, and build and check the tables."""

from typing import Annotated

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from boat.landing import BadRows, OnBadRows
from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.ingestion import load_events
from tasks.naming import dated
from tasks.quality import check_quality, check_silence, find_changes
from tasks.reports import publish_kpis
from tasks.transform import build_warehouse, check_freshness, publish_copy, publish_docs
from tasks.turns import take_turn


@flow(name="ingestion", flow_run_name=dated("ingestion"), on_failure=[alert_failure], timeout_seconds=3 * 3600)
def ingestion(
    source: str = "",
    platform: str = "default",
    on_bad_rows: OnBadRows = "stop",
    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.2,
    full_refresh: bool = False,
) -> State:
    """Load new shopper events, update every table, and check what has changed. Without changes, only load.

    Args:
        source: File or folder to load. Empty: the landing folder of the platform.
        platform: Name of the Boat Platform block.
        on_bad_rows: `stop` loads nothing and names the first bad row. `quarantine` puts bad rows into
            `raw.dead_letters`. Bad rows of the collector are always quarantined.
        max_bad_share: A file with more than 100 bad rows, and with a larger share of them, stops the flow, also with
            `quarantine`.
        full_refresh: Rebuild and check every table, for example after `boat erase`. Otherwise only changes are
            processed.
    """
    block = Platform.load(platform)
    take_turn(platform, "ingestion", "backfill")
    retried = RetryPolicy.load("default").apply

    loaded = retried(load_events)(block, source or block.landing, BadRows(on_bad_rows, max_bad_share))
    # `return_state`: a failure of this step does not stop the flow.
    if all(file.already_loaded for file in loaded.files):
        check_freshness(block, return_state=True)
    if not full_refresh and not retried(find_changes)(block):
        check_silence(block)
        return Completed(name="Unchanged", message="No new loads: tables, checks and KPIs are as they were.")
    retried(build_warehouse)(block, full_refresh)
    publish_copy(block, return_state=True)
    publish_docs(block, return_state=True)
    try:
        retried(check_quality)(block, "all" if full_refresh else "changed")
    finally:  # people need the KPIs most on a day on which a check fails
        retried(publish_kpis)(block)
    return Completed()
