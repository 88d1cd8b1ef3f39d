"""Shared fixtures and hooks: a clean environment, an empty home, running services and emulators."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.snapshots import shop, shop_snapshot, snapshot_of_views  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

    from tests.cloud.batch.emulator import Emulator
    from tests.cloud.batch.running import Cloud
    from tests.cloud.sagemaker.running_emulator import Emulators
    from tests.installation import Installation

ON_THE_INSTALLATION = (
    "tests/e2e/",
    "tests/flows/",
    "tests/collect/test_service.py",
    "tests/faults/test_killed_run.py",
    "tests/cloud/test_mixed.py",
)
"""Files with tests that use the fixture `installation`."""
ROOT = Path(__file__).parent.parent
TEST_DATA = Path(os.environ.get("BOAT_TEST_DATA") or ROOT.parent / "shared" / "data")
"""Folder of public data sets, one folder each; they are not part of the repository."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in background processes of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send SIGINT to child processes


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Return a fixed id for bytes: a gzip stream contains the current time, but all test processes need equal names."""
    return argname if isinstance(val, bytes) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the tests marked soak too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `soak` without `--soak`. A smaller variant of each always runs."""
    if not config.getoption("--soak"):
        soaking = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soaking)
        items[:] = [item for item in items if item not in soaking]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadFileScheduling":
    """Distribute whole files to processes. One process gets all files that need the running installation.

    Otherwise each process would start an installation, which takes half a minute.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "installation" if nodeid.startswith(ON_THE_INSTALLATION) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the machine's settings from the environment."""
    for name in list(os.environ):
        if name.startswith(("BOAT_", "PREFECT_", "MLFLOW_", "AWS_", "SNOWFLAKE_", "DBT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def every_fault(request: pytest.FixtureRequest) -> bool:
    """Return whether to inject the full number of faults (`--soak`) instead of a few."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty BOAT_HOME."""
    monkeypatch.setenv("BOAT_HOME", str(tmp_path / "boat"))
    return tmp_path / "boat"


@pytest.fixture(scope="session")
def public_data() -> Callable[[str], Path]:
    """Return a function that returns the folder of a public data set, or skips the test if it is missing."""

    def folder(name: str) -> Path:
        path = TEST_DATA / name
        if not path.is_dir():
            pytest.skip(f"The data set {name} is not in {TEST_DATA}: set BOAT_TEST_DATA to a folder that has it.")
        return path

    return folder


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Installation]":
    """Start Prefect server, worker, endpoint host and reports, once for all tests that need them."""
    from tests.installation import running_installation

    with running_installation(tmp_path_factory.mktemp("installation")) as running:
        yield running


@pytest.fixture(scope="session")
def sagemaker(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Emulators]":
    """Start SageMaker's emulator, and moto for S3 and CloudWatch, once for all tests that need them."""
    from tests.cloud.sagemaker.running_emulator import running_emulators

    with running_emulators(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture(scope="session")
def emulated_jobs() -> "Iterator[tuple[str, Emulator]]":
    """Start moto for S3, and the emulator of Batch, ECS and Logs, once for all tests that need them."""
    from tests.cloud.batch.running import running_cloud

    with running_cloud() as started:
        yield started


@pytest.fixture
def cloud(emulated_jobs: "tuple[str, Emulator]", monkeypatch: pytest.MonkeyPatch) -> "Iterator[Cloud]":
    """Yield an account with Batch, ECS and a store, and set its environment. Kill its containers at the end."""
    from cloudpathlib import S3Client

    from tests.cloud.batch.running import Cloud

    aws, emulator = emulated_jobs
    running = Cloud(aws, emulator)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(S3Client, "_default_client", None)  # the default client caches its first credentials
    yield running
    emulator.reset()
