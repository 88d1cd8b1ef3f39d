"""The blocks that users edit in the Prefect UI: back ends of an installation, retries of tasks, gates of promotions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from prefect import Task
from prefect.blocks.core import Block
from prefect.client.schemas import TaskRun
from prefect.runtime import flow_run
from prefect.states import State
from pydantic.v1 import Field  # Prefect 2's blocks are pydantic v1 models, also with pydantic 2 installed

from boat import compute, kinds, memory, serving, settings, store, warehouse
from boat.errors import DataError, JobError, ReleaseError, SettingError
from boat.kinds import KindName
from boat.registry import tracking
from boat.registry.pending import PendingRegistrations
from boat.registry.tracking import MlflowTracker, Tracker
from boat.registry.versions import Registry
from boat.settings import Settings
from boat.warehouse.duckdb import limited

NEVER_RETRIED = (DataError, JobError, ReleaseError, SettingError)
"""Errors that a retry cannot fix: wrong data, a bug in a job, a release that was rolled back, a wrong setting."""


class Platform(Block):
    """The back ends of an installation. With other URLs, the same flows run on other services."""

    _block_type_name = "Boat Platform"
    _block_type_slug = "boat-platform"

    warehouse_url: str = Field(
        title="Warehouse",
        description="URL: duckdb:////path/to/warehouse.duckdb, or snowflake://NAME of a Snowflake Connector block",
    )
    compute_url: str = Field(
        default="local:",
        title="Compute",
        description="URL: local: for subprocesses, batch://QUEUE/DEFINITION?region=… or ecs://CLUSTER/TASK?region=…",
    )
    serving_url: str = Field(
        title="Serving",
        description="URL: local:http://127.0.0.1:8080 for the endpoint host, or sagemaker://REGION?role=…",
    )
    memory: str = Field(
        default="",
        title="Memory",
        description="Memory that Boat may use on this machine, such as 6GB. Empty: BOAT_MEMORY, or half of all memory",
    )
    tracking_uri: str = Field(
        title="MLflow tracking URI",
        description="sqlite:////path/to/mlflow.db, or the address of an MLflow server",
    )
    trackers: str = Field(
        default="",
        title="Further trackers",
        description="URLs of trackers that record trainings in addition to MLflow, separated by spaces",
    )
    shop: str = Field(
        default="shop",
        title="Shop",
        description="Name of the shop in the events. Too few events on a day stop the flows, no events send an alert",
    )
    landing: str = Field(
        title="Landing folder", description="Folder in which event files arrive, or s3://BUCKET/PREFIX"
    )
    store: str = Field(title="Artifact store", description="Folder for snapshots and models, or s3://BUCKET/FOLDER")
    reports: str = Field(
        title="Reports folder",
        description="Folder for Data Docs and model cards, or s3://BUCKET/FOLDER",
    )
    reports_url: str = Field(title="Reports address", description="Web address of the reports folder")

    @classmethod
    def on_laptop(cls, config: Settings, shop: str) -> "Platform":
        """Return a platform without external services. Each shop has its own folder."""
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
    def name(self) -> str:
        """Return the name of this block."""
        return str(self._block_document_name or "unsaved")

    @property
    def warehouse(self) -> warehouse.Warehouse:
        if self.warehouse_url.startswith("snowflake:"):
            return _snowflake(self.warehouse_url)
        return warehouse.connect(limited(self.warehouse_url, self.memory_bytes))

    @property
    def memory_bytes(self) -> int:
        """Return the memory budget on this machine in bytes."""
        return memory.parse(self.memory, "The memory of the platform block") if self.memory else settings.memory()

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
    def pending_registrations(self) -> PendingRegistrations:
        return PendingRegistrations(self.store)

    def all_trackers(self) -> Mapping[str, Callable[[], Tracker]]:
        """Return functions that create the trackers, by URL. A wrong URL raises only when its function is called."""
        further = {url: partial(tracking.connect, url) for url in self.trackers.split()}
        return {self.tracking_uri: partial(MlflowTracker, self.tracking_uri), **further}

    def fetch(self, uri: str) -> Path:
        """Download an artifact of the store, and return its path. A local artifact is not copied."""
        return store.fetch(uri, settings.load().cache)

    def servable(self, uri: str) -> str:
        """Return a location of an artifact that the endpoint can read. The local endpoint host cannot read S3."""
        return str(self.fetch(uri)) if self.serving_url.startswith("local:") else uri

    @contextmanager
    def reporting(self) -> Iterator[Path]:
        """Open a local folder for new pages. At the end, the pages are copied to the reports folder."""
        if not store.is_remote(self.reports):
            yield Path(self.reports)
            return
        with TemporaryDirectory(prefix="boat-reports-") as folder:
            yield Path(folder)
            for page in Path(folder).rglob("*"):
                if page.is_file():
                    store.publish(page, store.join(self.reports, page.relative_to(folder).as_posix()))

    def report_link(self, page: Path, folder: Path) -> str:
        """Return the web address of a page that was written into the folder of `reporting`."""
        return f"{self.reports_url.rstrip('/')}/{page.relative_to(folder).as_posix()}"


def _snowflake(url: str) -> warehouse.Warehouse:
    """Return the warehouse of `snowflake://NAME`. Its secrets are stored in the Snowflake Connector block NAME."""
    from prefect_snowflake import SnowflakeConnector

    from boat.warehouse.snowflake import Login, SnowflakeWarehouse, parse

    name, options = parse(url)
    block = SnowflakeConnector.load(name)
    credentials = block.credentials
    key = credentials.resolve_private_key()
    if key is None:
        raise SettingError(
            f"The Snowflake Connector block {name!r} has no private key.",
            "Set the private key in its Snowflake Credentials block.",
        )
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


class GatePolicy(Block):
    """The conditions for the promotion of a kind of model. Its name is that of the kind."""

    _block_type_name = "Boat Gate Policy"
    _block_type_slug = "boat-gate-policy"

    mode: Literal["auto", "manual", "off"] = Field(
        default="auto",
        title="Mode",
        description="auto: passed gates are enough. manual: a person approves each version. off: nothing is promoted",
    )
    approval_days: int = Field(
        default=3, ge=1, le=90, title="Days to approve", description="Days in which a version can be approved"
    )
    margin: float = Field(
        default=kinds.GatePolicy.margin,
        ge=0,
        lt=1,
        title="Margin to the champion",
        description="Share of the champion's metric. The interval of the difference must end above minus this share",
    )
    lift_margin: float = Field(
        default=kinds.GatePolicy.lift_margin,
        ge=0,
        lt=1,
        title="Margin of the lift",
        description="Largest loss relative to the best promoted version, each compared with a baseline on its own days",
    )
    lift_days: int = Field(
        default=kinds.GatePolicy.lift_days,
        ge=1,
        title="Days of the lift",
        description="Days before the newest promotion whose versions are compared by their lift",
    )
    lift_versions: int = Field(
        default=kinds.GatePolicy.lift_versions,
        ge=1,
        title="Versions of the lift",
        description="Number of versions in a row whose mean lift is compared",
    )
    slice_margin: float = Field(
        default=kinds.GatePolicy.slice_margin,
        ge=0,
        lt=1,
        title="Margin of a segment",
        description="A segment is refused if its whole interval is more than this share below the champion's",
    )
    minimum_targets: int = Field(
        default=kinds.GatePolicy.minimum_targets,
        ge=1,
        title="Fewest targets",
        description="Fewest items or starts of sessions to predict on the test days",
    )
    minimum_buyers: int = Field(
        default=kinds.GatePolicy.minimum_buyers,
        ge=0,
        title="Fewest buyers",
        description="Fewest sessions with a purchase on the test days. Models of products have no buyers: 0",
    )
    untested: Literal["accept", "refuse"] = Field(
        default=kinds.GatePolicy.untested,
        title="Untested behaviour",
        description="Whether critical behaviour tests that the data cannot answer count as passed",
    )

    @classmethod
    def default_of(cls, kind: KindName) -> "GatePolicy":
        """Return the policy of a kind that nobody has changed."""
        gates = kinds.load(kind).gates
        return cls(**{name: value for name, value in vars(gates).items() if name in cls.__fields__})

    @classmethod
    def load_for(cls, kind: KindName) -> "GatePolicy":
        """Return the policy of a kind: its block, or the default if there is none."""
        try:
            policy: GatePolicy = cls.load(kind)
        except ValueError:
            return cls.default_of(kind)
        return policy

    def gates(self, kind: KindName) -> kinds.GatePolicy:
        """Return the gates of a kind with the values of this policy."""
        gates = kinds.load(kind).gates
        return replace(gates, **{name: getattr(self, name) for name in vars(gates) if name in self.__fields__})


def _is_transient(task: Task[..., Any], task_run: TaskRun, state: State) -> bool:  # Prefect passes them by name
    error = state.result(raise_on_failure=False)
    return not isinstance(error, NEVER_RETRIED)


class RetryPolicy(Block):
    """Retries of a task that failed with a temporary error."""

    _block_type_name = "Boat Retry Policy"
    _block_type_slug = "boat-retry-policy"

    retries: int = Field(default=2, ge=0, le=10, title="Retries", description="Number of retries, 0 to 10")
    delay_seconds: int = Field(
        default=10,
        ge=1,  # Prefect's server answers 500 to jitter on a delay below one second
        title="Delay in seconds",
        description="Pause before a retry",
    )
    jitter: float = Field(
        default=0.5, ge=0, le=1, title="Jitter", description="Random part of the pause: 0.5 adds up to half of it"
    )

    def apply(self, task: Task[..., Any]) -> Task[..., Any]:
        """Return the task with these retries. Wrong data, bugs and wrong settings are not retried."""
        return task.with_options(
            task_run_name=task.task_run_name,  # with_options of Prefect 2 drops it
            retries=self.retries,
            retry_delay_seconds=self.delay_seconds,
            retry_jitter_factor=self.jitter,
            retry_condition_fn=_is_transient,
        )
