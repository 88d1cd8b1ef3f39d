"""`backfill`: days that differ from their landing files are shown, and put right only if that is asked for."""

import shutil
from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.ingestion import ingestion
from tests.shops import Shop

pytestmark = pytest.mark.slow


def test_a_dry_run_changes_nothing_and_the_real_one_makes_every_table_right(
    shop: Shop, shop_files: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    shutil.copytree(shop_files, files)
    ingestion(source=str(files), platform=shop.name)
    events, sessions = shop.count("raw.events"), shop.count("marts.fct_sessions")
    with shop.platform.warehouse.session() as session:
        (day,) = session.query("select max(cast(event_time as date)) as day from raw.events").to_pylist()
    shop.plant(f"delete from raw.events where cast(event_time as date) = date '{day['day']}'")
    left = shop.count("raw.events")
    backfill(day["day"], day["day"], source=str(files), platform=shop.name)
    assert shop.count("raw.events") == left < events
    backfill(day["day"], day["day"], dry_run=False, source=str(files), platform=shop.name)
    assert (shop.count("raw.events"), shop.count("marts.fct_sessions")) == (events, sessions)
