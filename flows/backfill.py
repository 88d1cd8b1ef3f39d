"""Rebuild a range of days of the raw log from the landing files, compare it, and replace days that differ."""

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
from tasks.turns import take_turn


@flow(name="backfill", flow_run_name=dated("backfill"), on_failure=[alert_failure], timeout_seconds=6 * 3600)
def backfill(
    first_day: date,
    last_day: date,
    dry_run: bool = True,
    source: str = "",
    parallel_days: Annotated[int, Field(ge=1, le=16)] = 2,
    platform: str = "default",
) -> None:
    """Compare days of the raw log with the landing files. Without `dry_run`, replace days that differ.

    Args:
        first_day: First day of events (UTC). Products and dead letters are compared for all files.
        last_day: Last day of events (UTC), included.
        dry_run: Show the differences only. Otherwise each day that differs is replaced in one transaction, and every
            table is rebuilt.
        source: Folder with the landing files. Empty: the landing folder of the platform.
        parallel_days: Days that are compared or replaced at the same time.
        platform: Name of the Boat Platform block.
    """
    block = Platform.load(platform)
    take_turn(platform, "ingestion", "backfill")
    retried = RetryPolicy.load("default").apply
    source = source or block.landing

    with block.warehouse.exclusive():  # no load may run between the steps
        try:
            rebuilt = retried(raw.rebuild_raw_log)(block, source, first_day, last_day)
            days = raw.map_in_batches(retried(raw.compare_day), block, rebuilt.days, parallel_days)
            files = retried(raw.compare_files)(block)
            raw.publish_comparison(rebuilt, days, files, source)
            if not dry_run:
                retried(raw.check_nothing_lost)(block, days)
                days = raw.map_in_batches(retried(raw.replace_day), block, days, parallel_days)
                files = retried(raw.replace_files)(block, files)
                raw.publish_comparison(rebuilt, days, files, source)
        finally:
            retried(raw.drop_rebuilt_tables)(block)

    if any(part.replaced for part in (*days, *files)):
        retried(build_warehouse)(block, full_refresh=True)
        retried(check_quality)(block)
