"""New shopper events, all the way to checked tables, every hour."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from boat.landing import BadRows, OnBadRows
from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.ingestion import load_events
from tasks.naming import dated
from tasks.quality import check_quality
from tasks.reports import publish_kpis
from tasks.transform import build_warehouse, check_freshness, publish_docs


@flow(name="ingestion", flow_run_name=dated("ingestion"), on_failure=[alert_failure], timeout_seconds=3 * 3600)
def ingestion(
    source: str = "",
    platform: str = "default",
    on_bad_rows: OnBadRows = "stop",
    max_bad_share: Annotated[float, Field(ge=0, le=1)] = 0.2,
    full_refresh: bool = False,
) -> None:
    """Load new shopper events, bring every table after them up to date, and check them.

    Args:
        source: File or folder to load. Empty: the landing folder of the platform.
        platform: Name of the block that says where warehouse, jobs and endpoints are.
        on_bad_rows: Load nothing and name the first, or keep them apart with what is wrong with each. The collector's
            files never stop the flow.
        max_bad_share: A file with a larger share of bad rows stops the flow even where they are kept apart.
        full_refresh: Make every table anew, not only what new events change: as after `boat erase`.
    """
    place = Platform.load(platform)
    retried = RetryPolicy.load("default").apply

    loaded = retried(load_events)(place, source or place.landing, BadRows(on_bad_rows, max_bad_share))
    # `return_state`: what is not known or not written there stops nothing.
    if all(file.already_loaded for file in loaded.files):
        check_freshness(place, return_state=True)
    retried(build_warehouse)(place, full_refresh)
    publish_docs(place, return_state=True)
    try:
        retried(check_quality)(place)
    finally:  # on the day that something is wrong, people look at the figures
        retried(publish_kpis)(place)
