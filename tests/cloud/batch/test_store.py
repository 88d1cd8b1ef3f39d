"""The artifact store on S3: published files are complete and are downloaded byte for byte."""

from pathlib import Path

import pytest

from boat import store
from boat.errors import ArtifactError, SettingError
from tests.cloud.batch.running import Cloud

pytestmark = pytest.mark.cloud


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path, cloud: Cloud) -> str:
    return cloud.store if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "a.bin").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "folder" / "deep" / "b é.txt").write_text("b")
    return tmp_path / "folder"


def test_a_folder_is_downloaded_unchanged(root: str, folder: Path, tmp_path: Path) -> None:
    uri = store.join(root, "things", "one")
    assert not store.exists(uri)
    assert store.publish(folder, uri) == store.publish(folder, uri) == uri
    assert store.exists(uri)
    fetched = store.fetch(uri, tmp_path / "cache")
    assert (fetched / "a.bin").read_bytes() == (folder / "a.bin").read_bytes()
    assert (fetched / "deep" / "b é.txt").read_text() == "b"
    assert store.read_text(store.join(uri, "deep", "b é.txt")) == "b"
    assert store.fetch(uri, tmp_path / "cache") == fetched


def test_a_replaced_file_is_downloaded_again(root: str, folder: Path, tmp_path: Path) -> None:
    uri = store.publish(folder / "a.bin", store.join(root, "a.bin"))
    assert store.fetch(uri, tmp_path / "cache").read_bytes() == (folder / "a.bin").read_bytes()
    store.publish_bytes(b"new", uri)
    assert store.fetch(uri, tmp_path / "cache").read_bytes() == b"new"
    store.remove(uri)
    store.remove(uri)
    assert not store.exists(uri)


def test_names_below_a_uri_are_sorted(root: str, folder: Path) -> None:
    assert store.names(store.join(root, "things")) == []
    for name in ("b.json", "a.json"):
        store.publish_bytes(b"{}", store.join(root, "things", name))
    store.publish(folder, store.join(root, "things", "c"))
    assert store.names(store.join(root, "things")) == ["a.json", "b.json", "c"]


def test_a_cached_file_is_not_downloaded_again(cloud: Cloud, folder: Path, tmp_path: Path) -> None:
    uri = store.publish(folder, store.join(cloud.store, "one"))
    fetched = store.fetch(uri, tmp_path / "cache")
    store.remove(store.join(uri, "a.bin"))
    assert store.fetch(uri, tmp_path / "cache") == fetched


def test_a_partial_upload_is_not_visible(cloud: Cloud, folder: Path, tmp_path: Path) -> None:
    uri = store.join(cloud.store, "half")
    store.publish(folder / "a.bin", store.join(uri, "a.bin"))
    assert not store.exists(uri)
    with pytest.raises(ArtifactError, match=r"Nothing is published at s3://.*half"):
        store.fetch(uri, tmp_path / "cache")


def test_a_file_that_does_not_match_the_index_is_refused(cloud: Cloud, folder: Path, tmp_path: Path) -> None:
    uri = store.publish(folder, store.join(cloud.store, "one"))
    store.publish_bytes(b"tampered", store.join(uri, "a.bin"))
    with pytest.raises(ArtifactError, match=r"one/a\.bin does not match the digest in its index"):
        store.fetch(uri, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_index_cannot_write_elsewhere(cloud: Cloud, tmp_path: Path) -> None:
    uri = store.join(cloud.store, "evil")
    store.publish_bytes(b'{"../../../escaped": ""}', store.join(uri, store.INDEX))
    with pytest.raises(ArtifactError, match="outside"):
        store.fetch(uri, tmp_path / "cache")


def test_another_cloud_is_refused() -> None:
    with pytest.raises(SettingError, match="gs://bucket/thing"):
        store.exists("gs://bucket/thing")
