"""A model archive contains only a model, and its digest is verified."""

import dataclasses
import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from boat.errors import ArtifactError
from boat.models import archive, sessions
from boat.models.archive import ModelManifest

MANIFEST = ModelManifest(
    kind="recommend",
    model="test",
    created_at="2024-05-01T00:00:00+00:00",
    parameters={"seed": 1},
    inputs=sessions.INPUTS,
    outputs={"product_id": "string", "score": "float32"},
    metrics={"validation_mrr": 0.5},
    snapshot_digest="abc",
    products=3,
    code_version="1",
    tensorflow_version="2",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "assets/words.txt"):
        (folder / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "1" / name).write_text(f"content of {name}")
    (folder / "1/variables/variables.data-00000-of-00001").write_bytes(os.urandom(100_000))
    MANIFEST.write(folder)
    return folder


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return archive.digest(path)


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_an_archive_is_unpacked_to_the_packed_files(model: Path, tmp_path: Path) -> None:
    digest = archive.pack(model, tmp_path / "model.tar.gz")
    assert archive.unpack(tmp_path / "model.tar.gz", tmp_path / "out", digest) == MANIFEST
    packed = {path.relative_to(model): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == packed


def test_the_model_is_in_the_version_folder_of_the_stock_image(model: Path, tmp_path: Path) -> None:
    archive.pack(model, tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert {"boat.json", "1/saved_model.pb", "1/variables/variables.index"} < set(tar.getnames())


def test_the_same_content_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    first = archive.pack(model, tmp_path / "a.tar.gz")
    for path in model.rglob("*"):
        os.utime(path, (1, 1))
    (model / "boat.json").chmod(0o600)
    assert archive.pack(model, tmp_path / "elsewhere" / "b.tar.gz") == first


def test_another_digest_is_refused_before_anything_is_unpacked(model: Path, tmp_path: Path) -> None:
    archive.pack(model, tmp_path / "model.tar.gz")
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz has the digest"):
        archive.unpack(tmp_path / "model.tar.gz", tmp_path / "out", "0" * 64)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside.txt"),
        _member("/tmp/outside.txt"),
        _member("1/assets/../../outside.txt"),
        _member("1/assets/.."),
        _member("code/inference.py"),
        _member("1/saved_model.h5"),
        _member("1/assets/link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("1/assets/link", tarfile.LNKTYPE, "/etc/passwd"),
        _member("1/assets/pipe", tarfile.FIFOTYPE),
        _member("boat.json"),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_unknown_and_repeated_members_are_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    good = (_member("boat.json"), b"{}"), (_member("1/saved_model.pb"), b"")
    digest = _tar(tmp_path / "model.tar.gz", *good, (member, b"x"))
    with pytest.raises(ArtifactError):
        archive.unpack(tmp_path / "model.tar.gz", tmp_path / "deep" / "out", digest)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "model.tar.gz"]


def test_an_archive_with_too_many_bytes_or_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    members = (_member("boat.json"), b"{}"), (_member("1/saved_model.pb"), b"0" * 1001)
    with pytest.raises(ArtifactError, match="beyond"):
        archive.unpack(tmp_path / "m", tmp_path / "out", _tar(tmp_path / "m", *members))
    monkeypatch.setattr(archive, "MAX_FILES", 1)
    members = (_member("boat.json"), b"{}"), (_member("1/saved_model.pb"), b"")
    with pytest.raises(ArtifactError, match="beyond"):
        archive.unpack(tmp_path / "m", tmp_path / "out", _tar(tmp_path / "m", *members))


def test_an_archive_without_a_model_or_manifest_is_refused(tmp_path: Path) -> None:
    for name, missing in (("boat.json", "saved_model"), ("1/saved_model.pb", "boat.json")):
        digest = _tar(tmp_path / "m", (_member(name), b"{}"))
        with pytest.raises(ArtifactError, match=missing):
            archive.unpack(tmp_path / "m", tmp_path / "out", digest)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar" * 500)])
def test_unpacking_names_a_file_that_is_not_an_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz"):
        archive.unpack(tmp_path / "model.tar.gz", tmp_path / "out", archive.digest(tmp_path / "model.tar.gz"))


def test_a_truncated_archive_leaves_no_files(model: Path, tmp_path: Path) -> None:
    archive.pack(model, tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:50_000])
    with pytest.raises(ArtifactError, match="cut"):
        archive.unpack(tmp_path / "cut", tmp_path / "deep" / "out", archive.digest(tmp_path / "cut"))
    assert not list((tmp_path / "deep").iterdir())


def test_unpacking_replaces_an_existing_folder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "1").mkdir(parents=True)
    (tmp_path / "out" / "1" / "old.pb").touch()
    archive.unpack(tmp_path / "m", tmp_path / "out", archive.pack(model, tmp_path / "m"))
    assert not (tmp_path / "out" / "1" / "old.pb").exists()


def test_a_folder_with_an_unknown_file_is_not_packed(model: Path, tmp_path: Path) -> None:
    (model / "1" / "keras_metadata.pb").touch()
    with pytest.raises(ArtifactError, match="keras_metadata"):
        archive.pack(model, tmp_path / "model.tar.gz")


def test_a_manifest_of_the_old_kind_next_item_is_refused_with_the_next_step(tmp_path: Path) -> None:
    content = {field.name: {} for field in dataclasses.fields(ModelManifest)} | {"kind": "next_item"}
    (tmp_path / "boat.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"unknown kind 'next_item'\. Train and export the model again"):
        ModelManifest.read(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "weather"}'])
def test_a_foreign_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "boat.json").write_text(content)
    with pytest.raises(ArtifactError, match="manifest"):
        ModelManifest.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"):
        archive.digest(tmp_path / "nowhere")


def test_reading_a_manifest_names_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(ArtifactError, match=r"model\.tar\.gz is not a model archive"):
        archive.read_manifest(tmp_path / "model.tar.gz")
