"""The artifact store on S3: what is published is whole, and comes back byte for byte."""

from pathlib import Path

import pytest

from boat import store
from boat.errors import ArtifactError, SettingError
from tests.cloud.batch.running import Cloud

pytestmark = pytest.mark.cloud


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, cloud: Cloud) -> str:
    return cloud.store if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "a.bin").write_bytes(bytes(range(256)) * 1000)
    (tmp_path / "made" / "deep" / "b é.txt").write_text("b")
    return tmp_path / "made"


def test_a_folder_comes_back_as_it_was(place: str, made: Path, tmp_path: Path) -> None:
    uri = store.join(place, "things", "one")
    assert not store.exists(uri)
    assert store.publish(made, uri) == store.publish(made, uri) == uri
    assert store.exists(uri)
    fetched = store.fetch(uri, tmp_path / "cache")
    assert (fetched / "a.bin").read_bytes() == (made / "a.bin").read_bytes()
    assert (fetched / "deep" / "b é.txt").read_text() == "b"
    assert store.read_text(store.join(uri, "deep", "b é.txt")) == "b"
    assert store.fetch(uri, tmp_path / "cache") == fetched


def test_a_file_is_replaced_and_fetched_anew(place: str, made: Path, tmp_path: Path) -> None:
    uri = store.publish(made / "a.bin", store.join(place, "a.bin"))
    assert store.fetch(uri, tmp_path / "cache").read_bytes() == (made / "a.bin").read_bytes()
    store.publish_bytes(b"new", uri)
    assert store.fetch(uri, tmp_path / "cache").read_bytes() == b"new"
    store.remove(uri)
    store.remove(uri)
    assert not store.exists(uri)


def test_what_lies_below_a_place_is_named_in_order(place: str, made: Path) -> None:
    assert store.names(store.join(place, "things")) == []
    for name in ("b.json", "a.json"):
        store.publish_bytes(b"{}", store.join(place, "things", name))
    store.publish(made, store.join(place, "things", "c"))
    assert store.names(store.join(place, "things")) == ["a.json", "b.json", "c"]


def test_what_is_fetched_once_needs_no_second_download(cloud: Cloud, made: Path, tmp_path: Path) -> None:
    uri = store.publish(made, store.join(cloud.store, "one"))
    fetched = store.fetch(uri, tmp_path / "cache")
    store.remove(store.join(uri, "a.bin"))
    assert store.fetch(uri, tmp_path / "cache") == fetched


def test_a_folder_that_is_half_uploaded_is_not_there(cloud: Cloud, made: Path, tmp_path: Path) -> None:
    uri = store.join(cloud.store, "half")
    store.publish(made / "a.bin", store.join(uri, "a.bin"))
    assert not store.exists(uri)
    with pytest.raises(ArtifactError, match=r"Nothing is published at s3://.*half"):
        store.fetch(uri, tmp_path / "cache")


def test_a_file_that_is_not_what_the_index_says_is_refused(cloud: Cloud, made: Path, tmp_path: Path) -> None:
    uri = store.publish(made, store.join(cloud.store, "one"))
    store.publish_bytes(b"tampered", store.join(uri, "a.bin"))
    with pytest.raises(ArtifactError, match=r"one/a\.bin is not what its index says"):
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
