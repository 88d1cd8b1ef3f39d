"""A range of days again: the raw log rebuilt from the landing files, compared, and put right where it differs."""

from datetime import date
from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks import ingestion as raw
from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.naming import dated
from tasks.quality import check_quality
from tasks.transform import build_warehouse


@flow(name="backfill", flow_run_name=dated("backfill"), on_failure=[alert_failure], timeout_seconds=6 * 3600)
def backfill(
    first_day: date,
    last_day: date,
    dry_run: bool = True,
    source: str = "",
    parallel_days: Annotated[int, Field(ge=1, le=16)] = 2,
    platform: str = "default",
) -> None:
    """Rebuild days of the raw log from the landing files; unless it is a dry run, make every table anew from them.

    Args:
        first_day: First day of events, UTC. Products and dead letters have no day: those of all files are compared.
        last_day: Last day, itself included.
        dry_run: Only show where the raw log differs from its files. Else what differs is replaced, each day in one
            transaction; run again, it finds nothing to do.
        source: Folder with the files. Empty: the landing folder of the platform.
        parallel_days: How many days are compared or replaced at the same time.
        platform: Name of the block that says where warehouse, jobs and endpoints are.
    """
    place = Platform.load(platform)
    retried = RetryPolicy.load("default").apply
    source = source or place.landing

    with place.warehouse.exclusive():  # nothing is loaded between the steps
        try:
            rebuilt = retried(raw.rebuild_raw_log)(place, source, first_day, last_day)
            days = raw.in_turns(retried(raw.compare_day), place, rebuilt.days, parallel_days)
            files = retried(raw.compare_files)(place)
            raw.show_replay(rebuilt, days, files, source)
            if not dry_run:
                retried(raw.refuse_to_lose)(place, days)
                days = raw.in_turns(retried(raw.swap_day), place, days, parallel_days)
                files = retried(raw.swap_files)(place, files)
                raw.show_replay(rebuilt, days, files, source)
        finally:
            retried(raw.clear_replay)(place)

    if any(each.swapped for each in (*days, *files)):
        retried(build_warehouse)(place, full_refresh=True)
        retried(check_quality)(place)
