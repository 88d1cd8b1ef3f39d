"""The registry has a version for each trained model, and aliases for the live and the next version."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boat.errors import RegistryError, RegistryUnreachableError
from boat.registry.tracking import MlflowTracker, Training
from boat.registry.versions import CheckedLift, ModelVersion, Registry
from tests.installation import free_ports

LINEAGE = {"snapshot": "ab12", "code": "0.1.0", "dbt_manifest": "cd34", "flow_run": "f-1"}

Register = Callable[[str], ModelVersion]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one database for the module, because creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'new' / 'mlflow.db'}"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name


@pytest.fixture
def registry(store: str) -> Registry:
    return Registry(store)


def training(name: str, digest: str) -> Training:
    return Training(
        name,
        f"/store/{digest}/model.tar.gz",
        digest,
        "/snapshots/1",
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
    versions = {alias: registry.by_alias(name, alias) for alias in ("challenger", "champion", "previous")}
    return {alias: version and version.version for alias, version in versions.items()}


def test_a_registered_training_is_the_challenger_with_metrics_and_origin(
    registry: Registry, register: Register, name: str
) -> None:
    version = register("d1")
    assert version.name == name
    assert (version.version, version.uri, version.digest) == ("1", "/store/d1/model.tar.gz", "d1")
    assert version.metrics == {"mrr_at_20": 0.25}
    assert (version.snapshot_uri, version.lineage) == ("/snapshots/1", LINEAGE)
    assert version.created_at.tzinfo is not None
    assert registry.by_alias(name, "challenger") == version


def test_a_digest_is_registered_once(registry: Registry, register: Register, name: str) -> None:
    first = register("d1")
    assert register("d1") == first
    assert registry.versions(name) == (first,)


def test_a_champion_that_is_registered_again_remains_the_champion(
    registry: Registry, register: Register, name: str
) -> None:
    registry.promote(name, register("d1").version)
    register("d1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": None}


def test_a_second_call_completes_an_interrupted_registration(registry: Registry, register: Register, name: str) -> None:
    register("d1")
    registry._client.delete_registered_model_alias(name, "challenger")
    register("d1")
    assert aliases(registry, name)["challenger"] == "1"


def test_a_training_that_mlflow_did_not_record_is_registered(registry: Registry, name: str) -> None:
    version = registry.register(training(name, "d1"))
    assert (version.version, version.run_id, version.metrics) == ("1", "", {})
    assert version.lineage == LINEAGE
    assert registry.by_alias(name, "challenger") == version


def test_a_registry_that_is_down_is_refused_within_a_minute_with_the_next_step() -> None:
    (port,) = free_ports(1)
    registry = Registry(f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(RegistryUnreachableError, match=rf"127.0.0.1:{port} does not answer.*Start MLflow"):
        registry.by_alias("boat-recommend", "champion")
    assert time.monotonic() - started < 60


def test_a_registry_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnreachableError, match=r"file/mlflow\.db does not answer"):
        Registry(f"sqlite:///{tmp_path}/file/mlflow.db").versions("boat-recommend")


def test_promotion_sets_the_champion_and_the_previous_version(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    registry.promote(name, "1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": None}
    register("d2")
    registry.promote(name, "2")
    assert aliases(registry, name) == {"challenger": None, "champion": "2", "previous": "1"}


def test_a_second_promotion_of_a_version_changes_nothing(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2"):
        registry.promote(name, register(digest).version)
    before = aliases(registry, name)
    registry.promote(name, "2")
    assert aliases(registry, name) == before


def test_promotion_of_an_older_version_does_not_remove_the_challenger(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    register("d2")
    registry.promote(name, "1")
    assert aliases(registry, name) == {"challenger": "2", "champion": "1", "previous": None}


def test_rollbacks_go_back_one_version_after_the_other(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2", "d3"):
        registry.promote(name, register(digest).version)
    for _ in range(2):  # a repeated call changes nothing
        assert registry.roll_back(name, "2").version == "2"
        assert aliases(registry, name) == {"challenger": None, "champion": "2", "previous": "1"}
    registry.roll_back(name, "1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": None}
    registry.promote(name, register("d4").version)
    assert aliases(registry, name) == {"challenger": None, "champion": "4", "previous": "1"}


def test_a_version_that_is_promoted_again_can_be_rolled_back(registry: Registry, register: Register, name: str) -> None:
    for digest in ("d1", "d2"):
        registry.promote(name, register(digest).version)
    registry.promote(name, "1")
    assert aliases(registry, name) == {"challenger": None, "champion": "1", "previous": "2"}
    for _ in range(2):
        registry.roll_back(name, "2")
        assert aliases(registry, name) == {"challenger": None, "champion": "2", "previous": None}


def test_gates_and_promotions_are_stored_with_the_version(registry: Registry, register: Register, name: str) -> None:
    register("d1")
    registry.record_gates(name, "1", '[{"name": "champion"}]', 0.25)
    assert [(lift.value, lift.promoted_at) for lift in registry.lifts(name)] == [(0.25, None)]
    registry.promote(name, "1", "run-1")
    version = registry.get(name, "1")
    assert (version.gates, version.promoted_by) == ('[{"name": "champion"}]', "run-1")
    assert version.lineage == LINEAGE
    assert registry.lifts(name) == (CheckedLift(version.uri, 0.25, version.promoted_at),)


def test_the_lift_of_a_version_that_was_rolled_back_or_not_measured_does_not_count(
    registry: Registry, register: Register, name: str
) -> None:
    for digest, lift in (("d1", 0.1), ("d2", math.nan), ("d3", 0.9)):
        version = register(digest).version
        registry.record_gates(name, version, "[]", lift)
        registry.promote(name, version)
    assert [lift.value for lift in registry.lifts(name)] == [0.1, 0.9]
    registry.roll_back(name, "2")
    assert [lift.value for lift in registry.lifts(name)] == [0.1]
    registry.promote(name, "3")  # a person has chosen it again
    assert [lift.value for lift in registry.lifts(name)] == [0.1, 0.9]


def test_an_unknown_version_is_refused_and_an_unknown_model_has_no_versions(
    registry: Registry, register: Register, name: str
) -> None:
    register("d1")
    with pytest.raises(RegistryError, match=rf"{name} has no version '9'. Its versions: 1"):
        registry.promote(name, "9")
    assert registry.by_alias("boat-nothing", "champion") is None
    assert registry.versions("boat-nothing") == ()


def test_a_version_that_boat_did_not_register_is_refused(registry: Registry, name: str) -> None:
    registry._client.create_registered_model(name)
    registry._client.create_model_version(name, source="/model.tar.gz", tags={"digest": "d1"})
    with pytest.raises(RegistryError, match=rf"Version 1 of the model {name} has no tag 'snapshot_uri'.*Delete this"):
        registry.get(name, "1")


def test_first_use_prints_nothing_and_writes_nothing_into_the_working_folder(tmp_path: Path) -> None:
    code = f"""
from boat.registry.versions import Registry
from boat.registry.tracking import Training
registry = Registry("sqlite:///{tmp_path}/state/mlflow.db")
registry.register(Training("boat-intent", "/model.tar.gz", "d1", "/s", metrics={{}}, parameters={{}}, lineage={{}}))
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (process.stdout, process.stderr) == ("", "")
    assert list(folder.iterdir()) == []
