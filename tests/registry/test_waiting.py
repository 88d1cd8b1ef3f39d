"""Trainings wait for a registry that is down, in order, and are registered once."""

from pathlib import Path

import pytest

from boat.errors import RegistryUnreachableError
from boat.registry.tracking import Training
from boat.registry.versions import Registry
from boat.registry.waiting import WaitingRoom

NAME = "boat-recommend"


def training(digest: str, name: str = NAME) -> Training:
    lineage = {"snapshot_uri": "/snapshots/1"}
    return Training(name, "/model.tar.gz", digest, {"mrr_at_20": 0.25}, {"seed": "7"}, lineage, [{"epoch": 1}])


def test_what_waits_is_registered_oldest_first_and_once(tmp_path: Path) -> None:
    room, seen = WaitingRoom(str(tmp_path / "store")), []
    for digest in ("d2", "d1", "d3"):
        room.add(training(digest))
    room.add(training("d2"))  # a task that is tried again
    room.add(training("d9", "boat-intent"))

    (tmp_path / "file").touch()
    down = Registry(f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(RegistryUnreachableError):
        room.register(NAME, down, lambda training: None)

    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db")
    newest = room.register(NAME, registry, seen.append)
    assert [each.digest for each in seen] == ["d2", "d1", "d3"]
    assert seen[0] == training("d2")
    assert newest == registry.by_alias(NAME, "challenger")
    assert newest is not None
    assert (newest.version, newest.digest, newest.lineage) == ("3", "d3", {"snapshot_uri": "/snapshots/1"})
    assert room.register(NAME, registry, seen.append) is None
    assert registry.versions("boat-intent") == ()
