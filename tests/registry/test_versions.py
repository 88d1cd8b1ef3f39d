"""The registry keeps what was trained and which version answers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boat.errors import RegistryError, RegistryUnreachableError
from boat.registry.tracking import MlflowTracker, Training
from boat.registry.versions import ModelVersion, Registry
from tests.installation import free_ports

LINEAGE = {"snapshot": "ab12", "code": "0.1.0", "dbt_manifest": "cd34", "flow_run": "f-1"}

Register = Callable[[str], ModelVersion]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for the module: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'new' / 'mlflow.db'}"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of its own for each test."""
    return request.node.name


@pytest.fixture
def registry(store: str) -> Registry:
    return Registry(store)


def training(name: str, digest: str) -> Training:
    return Training(
        name,
        f"/store/{digest}/model.tar.gz",
        digest,
        metrics={"mrr_at_20": 0.25},
        parameters={"seed": "7"},
        lineage=LINEAGE,
        curve=[{"epoch": 1, "loss": 2.5}],
    )


@pytest.fixture
def register(registry: Registry, store: str, name: str) -> Register:
    def call(digest: str) -> ModelVersion:
        MlflowTracker(store).record(training(name, digest))
        return registry.register(training(name, digest))

    return call


def aliases(registry: Registry, name: str) -> dict[str, str | None]:
    found = {alias: registry.by_alias(name, alias) for alias in ("challenger", "champion", "previous")}
    return {alias: version and version.version for alias, version in found.items()}


def test_a_training_becomes_the_challenger_with_all_that_was_recorded(
    registry: Registry, register: Register, name: str
) -> None:
    version = register("d1")
    assert version.name == name
    assert (version.version, version.uri, version.digest) == ("1", "/store/d1/model.tar.gz", "d1")
    assert version.metrics == {"mrr_at_20": 0.25}
    assert version.lineage == LINEAGE
    assert version.created_at.tzinfo is not None
    assert registry.by_alias(name, "challenger") == version


def test_registering_the_same_digest_again_gives_the_same_version(
    registry: Registry, register: Register, name: str
) -> None:
    first = register("d1")
    assert register("d1") == first
    assert registry.versions(name) == (first,)


def test_registering_the_champion_again_leaves_it_the_champion(
    registry: Registry, register: Register, name: str
) -> None:
    registry.promote(name, register("d1").version)
    register("d1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": None}


def test_a_call_after_one_that_was_interrupted_before_its_end_names_the_challenger(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    registry._client.delete_registered_model_alias(name, "challenger")
    register("d1")
    assert aliases(registry, name)["challenger"] == "1"


def test_a_training_that_mlflow_did_not_record_is_registered_all_the_same(registry: Registry, name: str) -> None:
    version = registry.register(training(name, "d1"))
    assert (version.version, version.run_id, version.metrics) == ("1", "", {})
    assert version.lineage == LINEAGE
    assert registry.by_alias(name, "challenger") == version


def test_a_registry_that_does_not_answer_is_named_with_the_next_step_before_long() -> None:
    (port,) = free_ports(1)
    registry = Registry(f"http://127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(RegistryUnreachableError, match=rf"127.0.0.1:{port} does not answer .*Start MLflow"):
        registry.by_alias("boat-recommend", "champion")
    assert time.monotonic() - began < 60


def test_a_registry_in_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnreachableError, match=r"file/mlflow\.db does not answer"):
        Registry(f"sqlite:///{tmp_path}/file/mlflow.db").versions("boat-recommend")


def test_a_promoted_challenger_is_the_champion_and_the_champion_the_previous(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    registry.promote(name, "1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": None}
    register("d2")
    registry.promote(name, "2")
    assert aliases(registry, name) == {"challenger": None, "champion": "2", "previous": "1"}


def test_promoting_twice_changes_nothing_more(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2"):
        registry.promote(name, register(digest).version)
    before = aliases(registry, name)
    registry.promote(name, "2")
    assert aliases(registry, name) == before


def test_promoting_an_older_version_keeps_the_newer_challenger(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    register("d2")
    registry.promote(name, "1")
    assert aliases(registry, name) == {"challenger": "2", "champion": "1", "previous": None}


def test_a_roll_back_can_itself_be_rolled_back(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2"):
        registry.promote(name, register(digest).version)
    assert registry.roll_back(name).version == "1"
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": "2"}
    assert registry.roll_back(name).version == "2"


def test_a_roll_back_to_a_named_version_can_be_repeated(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2"):
        registry.promote(name, register(digest).version)
    for _ in range(2):
        assert registry.roll_back(name, to="1").version == "1"
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": "2"}


def test_a_roll_back_without_a_previous_version_says_what_is_missing(
    registry: Registry, register: Register, name: str
) -> None:
    registry.promote(name, register("d1").version)
    with pytest.raises(RegistryError, match=rf"{name} has no previous version .*champion: 1"):
        registry.roll_back(name)


def test_an_unknown_version_or_model_is_named(registry: Registry, register: Register, name: str) -> None:
    register("d1")
    with pytest.raises(RegistryError, match=rf"{name} has no version '9'. Registered: 1"):
        registry.promote(name, "9")
    assert registry.by_alias("boat-nothing", "champion") is None
    assert registry.versions("boat-nothing") == ()


def test_first_use_prints_nothing_and_leaves_nothing_in_the_working_folder(tmp_path: Path) -> None:
    code = f"""
from boat.registry.versions import Registry
from boat.registry.tracking import Training
registry = Registry("sqlite:///{tmp_path}/state/mlflow.db")
registry.register(Training("boat-intent", "/model.tar.gz", "d1", metrics={{}}, parameters={{}}, lineage={{}}))
"""
    here = tmp_path / "here"
    here.mkdir()
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(here.iterdir()) == []
