"""Check tables with Great Expectations, in the warehouse. Without Prefect: `boat.quality.check(...)`."""

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from boat import quality
from boat.quality import QualityReport
from expectations import SILENCE, suites
from tasks import alerts
from tasks.blocks import Platform


@task(task_run_name="check quality", tags=["warehouse"])
def check_quality(platform: Platform) -> QualityReport:
    """Check every suite and publish the results. A shop without new events sends an alert.

    Raises:
        QualityError: A critical expectation is not met.
        CheckError: A critical check could not run.
    """
    with platform.reporting() as folder:
        report = quality.check(platform.warehouse, suites(platform.shop), folder)
    links = {table: platform.report_link(page, folder.absolute()) for table, page in report.pages.items()}
    counted = ", ".join(f"{number} {status}" for status, number in sorted(report.count().items()))
    create_table_artifact(key="quality", description=f"Expectations: {counted}", table=quality.rows_table(report))
    create_markdown_artifact(
        key="data-docs",
        description="Data Docs of this check",
        markdown="\n".join(f"- [{table}]({link})" for table, link in links.items()),
    )
    if any(check.expectation == SILENCE for check in report.where("failed", "warning")):
        text = "No events have been received since yesterday. Check that the collector runs and that its files arrive."
        alerts.send(f"The shop {platform.shop} sends no events", text, str(runtime.flow_run.id), get_run_logger())
    quality.raise_for(report)
    return report
