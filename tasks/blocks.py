"""The blocks users edit in the Prefect UI: where things run, and how often a task is tried."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import Task
from prefect.blocks.core import Block
from prefect.client.schemas import TaskRun
from prefect.runtime import flow_run
from prefect.states import State
from pydantic.v1 import Field  # Prefect 2's blocks are pydantic v1 models even beside pydantic 2

from boat import compute, serving, settings, store, warehouse
from boat.errors import DataError, JobError, ReleaseError, SettingError
from boat.registry import tracking
from boat.registry.tracking import MlflowTracker, Tracker
from boat.registry.versions import Registry
from boat.registry.waiting import WaitingRoom
from boat.settings import Settings

NEVER_RETRIED = (DataError, JobError, ReleaseError, SettingError)
"""Errors that a second try cannot mend: wrong data, a bug in a job, a release the service undid, a wrong setting."""


class Platform(Block):
    """Where an installation keeps its data and runs its work. Swap the URLs, and the same flows run elsewhere."""

    _block_type_name = "Boat Platform"
    _block_type_slug = "boat-platform"

    warehouse_url: str = Field(
        title="Warehouse",
        description="duckdb:////path/to/warehouse.duckdb, or snowflake://BLOCK for a Snowflake Connector block",
    )
    compute_url: str = Field(
        default="local:",
        title="Compute",
        description="local: runs jobs as subprocesses; batch://QUEUE/DEFINITION?region=… and ecs://CLUSTER/TASK?region=…",
    )
    serving_url: str = Field(title="Serving", description="local:http://127.0.0.1:8080 is the endpoint host")
    tracking_uri: str = Field(title="MLflow tracking URI", description="sqlite:////path/to/mlflow.db or a server's URL")
    trackers: str = Field(
        default="",
        title="More trackers",
        description="Where trainings are recorded beside MLflow: URLs with spaces between, as docs/tracking.md says",
    )
    shop: str = Field(
        default="shop",
        title="Shop",
        description="Its name in the events. A collapsed day of this shop stops the flows, its silence sends an alert",
    )
    landing: str = Field(title="Landing folder", description="Where event files arrive")
    store: str = Field(title="Artifact store", description="Folder of snapshots and models, or s3://BUCKET/FOLDER")
    reports: str = Field(
        title="Reports folder",
        description="Where Data Docs and model cards are written: a folder, or s3://BUCKET/FOLDER",
    )
    reports_url: str = Field(title="Reports address", description="Under which the reports folder can be read")

    @classmethod
    def on_laptop(cls, config: Settings, shop: str) -> "Platform":
        """Everything embedded, each shop in a folder of its own."""
        home = config.shop(shop)
        return cls(
            warehouse_url=f"duckdb:///{home / 'warehouse.duckdb'}",
            serving_url=f"local:{config.endpoint_url}",
            tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
            landing=str(home / "landing"),
            store=str(home / "store"),
            reports=str(config.reports / shop),
            reports_url=f"{config.reports_url}/{shop}",
        )

    @property
    def warehouse(self) -> warehouse.Warehouse:
        if self.warehouse_url.startswith("snowflake:"):
            return _snowflake(self.warehouse_url)
        return warehouse.connect(self.warehouse_url)

    @property
    def compute(self) -> compute.Compute:
        return compute.connect(self.compute_url)

    @property
    def serving(self) -> serving.Serving:
        return serving.connect(self.serving_url)

    @property
    def registry(self) -> Registry:
        return Registry(self.tracking_uri)

    @property
    def waiting(self) -> WaitingRoom:
        return WaitingRoom(self.store)

    def all_trackers(self) -> Mapping[str, Callable[[], Tracker]]:
        """What makes each tracker, by its address; a wrong address is known when it is used."""
        more = {url: partial(tracking.connect, url) for url in self.trackers.split()}
        return {self.tracking_uri: partial(MlflowTracker, self.tracking_uri), **more}

    def fetch(self, uri: str) -> Path:
        """An artifact of the store as a file or folder of this machine."""
        return store.fetch(uri, settings.load().cache)

    def servable(self, uri: str) -> str:
        """Where the endpoint's host finds an artifact: one on this machine reads no S3."""
        return str(self.fetch(uri)) if self.serving_url.startswith("local:") else uri

    @contextmanager
    def reporting(self) -> Iterator[Path]:
        """A folder of this machine to write pages into; at the end they are among the reports, wherever these are."""
        if not store.is_remote(self.reports):
            yield Path(self.reports)
            return
        with TemporaryDirectory(prefix="boat-reports-") as folder:
            yield Path(folder)
            for page in Path(folder).rglob("*"):
                if page.is_file():
                    store.publish(page, store.join(self.reports, page.relative_to(folder).as_posix()))

    def report_link(self, page: Path, folder: Path) -> str:
        """The address under which a page written into the folder of `reporting` can be read."""
        return f"{self.reports_url.rstrip('/')}/{page.relative_to(folder).as_posix()}"


def _snowflake(url: str) -> warehouse.Warehouse:
    """The warehouse of `snowflake://BLOCK`: secrets stay in the Snowflake Connector block of that name."""
    from prefect_snowflake import SnowflakeConnector

    from boat.warehouse.snowflake import Login, SnowflakeWarehouse, parse

    name, options = parse(url)
    block = SnowflakeConnector.load(name)
    credentials = block.credentials
    key = credentials.resolve_private_key()
    if key is None:
        raise SettingError(f"The block {name!r} has no private key.", "Set one in its Snowflake Credentials.")
    login = Login.from_key(
        key,
        account=credentials.account,
        user=credentials.user,
        role=credentials.role or "",
        database=block.database,
        warehouse=block.warehouse,
        **options.login,
    )
    return SnowflakeWarehouse(login, tag=f"boat {flow_run.id or 'without a flow run'}", unload=options.unload)


def _is_transient(task: Task[..., Any], task_run: TaskRun, state: State) -> bool:  # Prefect passes them by name
    error = state.result(raise_on_failure=False)
    return not isinstance(error, NEVER_RETRIED)


class RetryPolicy(Block):
    """How often, and after what pause, a task that failed for a passing reason is tried again."""

    _block_type_name = "Boat Retry Policy"
    _block_type_slug = "boat-retry-policy"

    retries: int = Field(default=2, ge=0, le=10, title="Retries")
    delay_seconds: int = Field(
        default=10,
        ge=1,  # Prefect's server answers 500 to jitter on a delay below one second
        title="Delay in seconds",
    )
    jitter: float = Field(
        default=0.5, ge=0, le=1, title="Jitter", description="0.5: up to half as long again, at random"
    )

    def apply(self, task: Task[..., Any]) -> Task[..., Any]:
        """The same task, tried again as the policy says; bad data, bugs and wrong settings are not."""
        return task.with_options(
            task_run_name=task.task_run_name,  # with_options of Prefect 2 forgets it
            retries=self.retries,
            retry_delay_seconds=self.delay_seconds,
            retry_jitter_factor=self.jitter,
            retry_condition_fn=_is_transient,
        )
