"""Back ends of other packages are found by entry point, at every seam, without an edit in `src`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boat import compute, serving, warehouse
from boat.errors import SettingError
from boat.registry import tracking

SEAMS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "warehouse": ("boat.warehouses", warehouse.connect),
    "compute": ("boat.compute", compute.connect),
    "serving": ("boat.serving", serving.connect),
    "tracker": ("boat.trackers", tracking.connect),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that installs a small package with an entry point for each seam."""

    def write(module: str, code: str, protocol: str = "moon") -> None:
        metadata = tmp_path / "boat_moon-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: boat-moon\nVersion: 1.0\n")
        groups = (f"[{group}]\n{protocol} = {module}:Base.at\n" for group, _ in SEAMS.values())
        (metadata / "entry_points.txt").write_text("\n".join(groups))
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return write


BASE = """
recorded = []

class Base:
    def __init__(self, url):
        self.url = url

    @classmethod
    def at(cls, url):
        return cls(url)

    def record(self, training):
        recorded.append((self.url, training))
"""


@pytest.mark.parametrize("seam", SEAMS)
def test_an_installed_package_adds_a_back_end(seam: str, install: Callable[..., None]) -> None:
    install(f"moon_{seam}", BASE)
    _, connect = SEAMS[seam]
    assert connect("moon://base?crew=2").url == "moon://base?crew=2"


def test_an_installed_tracker_records_a_training(install: Callable[..., None]) -> None:
    install("moon_records", BASE)
    training = tracking.Training("boat-recommend", "/store/model.tar.gz", "ab12", "/store/snapshots/1", {}, {}, {})
    assert tracking.record({"moon:": lambda: tracking.connect("moon:")}, training) == ()
    import moon_records  # type: ignore[import-not-found]

    assert moon_records.recorded == [("moon:", training)]


@pytest.mark.parametrize("seam", SEAMS)
def test_an_unknown_protocol_is_refused_with_the_installed_ones_and_how_to_add_one(
    seam: str, install: Callable[..., None]
) -> None:
    install(f"moon_for_{seam}", BASE)
    group, connect = SEAMS[seam]
    with pytest.raises(SettingError, match=rf"'mars'.*\bmoon\b.*entry point named mars in the group {group}\."):
        connect("mars:base")


def test_a_back_end_of_boat_wins_over_an_entry_point_of_its_name(install: Callable[..., None]) -> None:
    install("moon_as_local", BASE, protocol="local")
    assert compute.connect("local:").max_parallel >= 1


def test_a_back_end_that_cannot_be_imported_names_its_package(install: Callable[..., None]) -> None:
    install("moon_without_rocket", "import no_such_package")
    with pytest.raises(SettingError, match=r"no_such_package.*pip install boat-moon"):
        compute.connect("moon:")
