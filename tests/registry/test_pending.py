"""Pending registrations are completed once, in order, when the registry answers again."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from boat import store
from boat.errors import RegistryUnreachableError
from boat.registry.pending import PendingRegistrations
from boat.registry.tracking import Training
from boat.registry.versions import Registry

NAME = "boat-recommend"


def training(digest: str, name: str = NAME) -> Training:
    metrics, parameters, lineage = {"mrr_at_20": 0.25}, {"seed": "7"}, {"snapshot": "ab12"}
    return Training(name, "/model.tar.gz", digest, "/snapshots/1", metrics, parameters, lineage, [{"epoch": 1}])


def test_pending_trainings_are_registered_once_and_oldest_first(tmp_path: Path) -> None:
    pending, recorded = PendingRegistrations(str(tmp_path / "store")), []
    for digest in ("d2", "d1", "d3"):
        pending.add(training(digest))
    pending.add(training("d2"))  # a retried task adds it again
    pending.add(training("d9", "boat-intent"))

    (tmp_path / "file").touch()
    down = Registry(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(RegistryUnreachableError):
        pending.register(NAME, down, lambda training: None)

    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    newest = pending.register(NAME, registry, recorded.append)
    assert [training.digest for training in recorded] == ["d2", "d1", "d3"]
    assert recorded[0] == training("d2")
    assert newest == registry.by_alias(NAME, "challenger")
    assert newest is not None
    assert (newest.version, newest.digest, newest.snapshot_uri) == ("3", "d3", "/snapshots/1")
    assert pending.register(NAME, registry, recorded.append) is None
    assert registry.versions("boat-intent") == ()


def test_a_training_that_was_added_before_0_1_0_is_registered(tmp_path: Path) -> None:
    artifacts = str(tmp_path / "store")
    fields = asdict(training("d1"))
    fields["lineage"]["snapshot_uri"] = fields.pop("snapshot_uri")
    store.publish_bytes(json.dumps(fields).encode(), store.join(artifacts, "unregistered", NAME, "20260101-d1.json"))
    recorded: list[Training] = []
    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    PendingRegistrations(artifacts).register(NAME, registry, recorded.append)
    assert recorded == [training("d1")]
