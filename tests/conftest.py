"""Fixtures that every test shares: a clean environment and a home of its own."""

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

ON_THE_INSTALLATION = ("tests/e2e/", "tests/flows/", "tests/collect/test_service.py", "tests/faults/test_killed_run.py")
"""Where tests ask for the fixture `installation`."""
ROOT = Path(__file__).parent.parent
TEST_DATA = Path(os.environ.get("BOAT_TEST_DATA") or ROOT.parent / "shared" / "data")
"""Folder of public data sets, one folder each; they are not part of the repository."""

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it puts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt processes that inherit it


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are not spelled out in a test's name: a gzip stream holds the second it was made in, and the processes
    that share out the tests must find the same names."""
    return argname if isinstance(val, bytes) else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the tests marked soak too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Full sizes and second looks run where they are asked for; a smaller or first one always does."""
    if not config.getoption("--soak"):
        soaking = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soaking)
        items[:] = [item for item in items if item not in soaking]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadFileScheduling":
    """Processes share out whole files, but one of them takes all that need the running installation: each would start
    its own, which takes half a minute and goes on running to the end."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "installation" if nodeid.startswith(ON_THE_INSTALLATION) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("BOAT_", "PREFECT_", "MLFLOW_", "AWS_", "SNOWFLAKE_", "DBT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def every_fault(request: pytest.FixtureRequest) -> bool:
    """Whether faults strike as often as they are promised to do no harm; else a few times do."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty BOAT_HOME."""
    monkeypatch.setenv("BOAT_HOME", str(tmp_path / "boat"))
    return tmp_path / "boat"


@pytest.fixture(scope="session")
def public_data() -> Callable[[str], Path]:
    """Return the folder of a public data set by its name; skip the test if the data set is missing."""

    def folder(name: str) -> Path:
        path = TEST_DATA / name
        if not path.is_dir():
            pytest.skip(f"The data set {name} is not in {TEST_DATA}: set BOAT_TEST_DATA to a folder that has it.")
        return path

    return folder


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Installation]":
    """Prefect server, worker, endpoint host and reports, started once for all tests that need them."""
    from tests.installation import running_installation

    with running_installation(tmp_path_factory.mktemp("installation")) as running:
        yield running


@pytest.fixture(scope="session")
def sagemaker(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Emulators]":
    """SageMaker's emulator, with moto for S3 and CloudWatch, started once for all tests that need them."""
    from tests.cloud.sagemaker.running_emulator import running_emulators

    with running_emulators(tmp_path_factory.mktemp("sagemaker")) as running:
        yield running


@pytest.fixture(scope="session")
def emulated_jobs() -> "Iterator[tuple[str, Emulator]]":
    """moto for S3, and the emulator of Batch, ECS and Logs, started once for all tests that need them."""
    from tests.cloud.batch.running import running_cloud

    with running_cloud() as started:
        yield started


@pytest.fixture
def cloud(emulated_jobs: "tuple[str, Emulator]", monkeypatch: pytest.MonkeyPatch) -> "Iterator[Cloud]":
    """A machine in an account with Batch, ECS and a store; after it no container runs."""
    from cloudpathlib import S3Client

    from tests.cloud.batch.running import Cloud

    aws, emulator = emulated_jobs
    running = Cloud(aws, emulator)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(S3Client, "_default_client", None)  # it keeps the first credentials it saw
    yield running
    emulator.reset()
