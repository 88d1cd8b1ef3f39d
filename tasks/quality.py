"""Check tables with Great Expectations, in the warehouse. Without Prefect: `boat.quality.check(...)`."""

from typing import Literal

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from boat import quality
from boat.quality import QualityReport
from boat.transform import loads
from expectations import CHANGED_ROWS, SILENCE, silence, suites
from tasks import alerts, checked
from tasks.blocks import Platform
from tasks.measured import measured


@task(task_run_name="look for changes", tags=["warehouse"])
def find_changes(platform: Platform) -> bool:
    """Return whether there is anything to build or to check: new loads, other models or checks, or a failed run."""
    known = loads.read(platform.warehouse)
    return not (known.are_built and checked.have_passed(platform, known.built))


@task(task_run_name="check quality", tags=["warehouse"])
@measured
def check_quality(platform: Platform, rows: Literal["all", "changed"] = "all") -> QualityReport:
    """Check every suite and publish the results. A shop without new events sends an alert.

    Args:
        platform: Installation with the warehouse.
        rows: `changed` checks the rows of the newest loads only, if all others have passed before.

    Raises:
        QualityError: A critical expectation is not met.
        CheckError: A critical check could not run.
    """
    known = loads.read(platform.warehouse)
    only_changed = rows == "changed" and checked.have_passed(platform, known.built - known.newest)
    changed = CHANGED_ROWS if only_changed else {}
    checked.forget(platform)  # until these checks have passed
    with platform.reporting() as folder:
        report = quality.check(platform.warehouse, suites(platform.shop), folder, changed)
    links = {suite: platform.report_link(page, folder.absolute()) for suite, page in report.pages.items()}
    counted = ", ".join(f"{number} {status}" for status, number in sorted(report.count().items()))
    scope = "Expectations, on the rows of the newest loads" if only_changed else "Expectations"
    create_table_artifact(key="quality", description=f"{scope}: {counted}", table=quality.rows_table(report))
    create_markdown_artifact(
        key="data-docs",
        description="Data Docs of this check",
        markdown="\n".join(f"- [{suite}]({link})" for suite, link in links.items()),
    )
    if any(check.expectation == SILENCE for check in report.where("failed", "warning")):
        _alert_silence(platform)
    quality.raise_for(report)
    checked.remember(platform, known.built)
    return report


def check_silence(platform: Platform) -> None:
    """Send an alert if the shop of the platform has sent no events since yesterday. No other check runs."""
    with platform.warehouse.transaction() as transaction:
        is_silent = transaction.query(silence.query("?"), [platform.shop]).num_rows
    if is_silent:
        _alert_silence(platform)


def _alert_silence(platform: Platform) -> None:
    text = "No events have been received since yesterday. Check that the collector runs and that its files arrive."
    alerts.send(f"The shop {platform.shop} sends no events", text, str(runtime.flow_run.id), get_run_logger())
