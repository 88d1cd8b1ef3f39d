"""Publish KPIs. Without Prefect: `boat.reports.kpis.write(...)`."""

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact

from boat.reports import kpis
from tasks.blocks import Platform
from tasks.measured import measured

KPI_DAYS = 14


@task(task_run_name="publish KPIs", tags=["warehouse"])
@measured
def publish_kpis(platform: Platform) -> None:
    """Write the KPI page, link to it, and publish the newest daily KPIs as a table."""
    with platform.reporting() as folder:
        page = kpis.write(platform.warehouse, folder)
    link = platform.report_link(page, folder)
    create_link_artifact(link, link_text="KPI report", key="kpi-report", description="Page with the KPIs of the shop")
    with platform.warehouse.transaction() as transaction:
        days = transaction.query(f"select * from marts.kpi_daily order by day desc, shop limit {KPI_DAYS}").to_pandas()
    days["day"] = days["day"].astype(str)
    create_table_artifact(
        key="kpis",
        description=f"Daily KPIs, newest first, {len(days)} rows",
        table=days.round(4).to_dict(orient="records"),
    )
