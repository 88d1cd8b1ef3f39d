"""What people look at while, and after, a flow runs. KPIs without Prefect: `boat.reports.kpis.write(...)`."""

import time
from collections.abc import Callable

from prefect import get_client, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from boat.reports import kpis
from tasks.blocks import Platform

KPI_DAYS = 14


class LiveArtifact:
    """A markdown artifact that changes while its task runs.

    Args:
        key: Key of the artifact in the UI.
        description: Its description.
        every_seconds: Least pause between two updates, each of which is a request to the server.
    """

    def __init__(self, key: str, description: str, every_seconds: float = 5) -> None:
        self._key, self._description, self._pause = key, description, every_seconds
        self._id: str | None = None
        self._last = -every_seconds

    def update(self, draw: Callable[[], str], *, now: bool = False) -> None:
        """Show what `draw` returns, unless the last update was a moment ago and it need not be `now`."""
        if not now and time.monotonic() - self._last < self._pause:
            return
        markdown = draw()
        if self._id is None:
            self._id = str(create_markdown_artifact(markdown, key=self._key, description=self._description))
        else:
            with get_client(sync_client=True) as client:
                # The client has no method for the API's update of an artifact.
                client._client.patch(f"/artifacts/{self._id}", json={"data": markdown}).raise_for_status()
        self._last = time.monotonic()


@task(task_run_name="publish KPIs", tags=["warehouse"])
def publish_kpis(platform: Platform) -> None:
    """Write the KPI page and link it, and show the daily figures of the last days that have any."""
    with platform.reporting() as folder:
        page = kpis.write(platform.warehouse, folder)
    link = platform.report_link(page, folder)
    create_link_artifact(link, link_text="Shop figures", key="kpi-report", description="KPI report")
    with platform.warehouse.transaction() as transaction:
        days = transaction.query(f"select * from marts.kpi_daily order by day desc, shop limit {KPI_DAYS}").to_pandas()
    days["day"] = days["day"].astype(str)
    create_table_artifact(
        key="kpis",
        description=f"Daily figures, newest first, last {len(days)} rows",
        table=days.round(4).to_dict(orient="records"),
    )
