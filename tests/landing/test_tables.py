"""`boat.landing.tables` describes every temporary table of the landing code."""

import re

from boat.landing.tables import TEMPORARY
from tests.conftest import ROOT


def test_every_temporary_table_is_described() -> None:
    used = {
        name
        for package in ("landing", "raw_log")
        for path in (ROOT / "src" / "boat" / package).rglob("*.py")
        if path.name != "tables.py"
        for name in re.findall(r"\blanding_[a-z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert used <= set(TEMPORARY)
    assert {name for name in TEMPORARY if name.startswith("landing_")} - used <= {"landing_events_typed"}
