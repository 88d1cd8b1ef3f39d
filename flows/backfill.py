"""A range of days again: the raw log rebuilt from the landing files, compared, and put right where it differs."""

from datetime import date

from prefect import flow

from tasks.alerts import alert_failure
from tasks.blocks import Platform, RetryPolicy
from tasks.ingestion import replay_days
from tasks.naming import dated
from tasks.quality import check_quality
from tasks.transform import build_warehouse


@flow(name="backfill", flow_run_name=dated("backfill"), on_failure=[alert_failure], timeout_seconds=6 * 3600)
def backfill(
    first_day: date, last_day: date, dry_run: bool = True, source: str = "", platform: str = "default"
) -> None:
    """Rebuild days of the raw log from the landing files; unless it is a dry run, make every table anew from them.

    Args:
        first_day: First day, UTC.
        last_day: Last day, itself included.
        dry_run: Only show where the raw log differs from its files. Else days that differ are replaced, in one
            transaction; run again, it finds nothing to do.
        source: Folder with the files. Empty: the landing folder of the platform.
        platform: Name of the block that says where warehouse, jobs and endpoints are.
    """
    place = Platform.load(platform)
    retried = RetryPolicy.load("default").apply

    found = retried(replay_days)(place, source or place.landing, first_day, last_day, swap=not dry_run)
    if any(day.swapped for day in found.days):
        retried(build_warehouse)(place, full_refresh=True)
        retried(check_quality)(place)
