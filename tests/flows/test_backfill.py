"""`backfill` shows days that differ from their landing files, and replaces them without `dry_run`."""

import shutil
from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.ingestion import ingestion
from tests.shops import Shop

pytestmark = pytest.mark.slow


def test_a_dry_run_changes_nothing_and_a_real_run_repairs_every_table(
    shop: Shop, shop_files: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    shutil.copytree(shop_files, files)
    ingestion(source=str(files), platform=shop.name)
    complete = counts(shop)
    with shop.platform.warehouse.transaction() as transaction:
        days = transaction.query("select distinct cast(event_time as date) as day from raw.events order by 1")["day"]
    first, *_, last = days.to_pylist()
    shop.plant(f"delete from raw.events where cast(event_time as date) in (date '{first}', date '{last}')")
    shop.plant("delete from raw.products")
    damaged = counts(shop)
    backfill(first, last, source=str(files), parallel_days=3, platform=shop.name)
    assert counts(shop) == damaged != complete
    backfill(first, last, dry_run=False, source=str(files), parallel_days=3, platform=shop.name)
    assert counts(shop) == complete
    with shop.platform.warehouse.transaction() as transaction:
        assert (
            transaction.query("select 1 from information_schema.schemata where schema_name = 'raw_replay'").num_rows
            == 0
        )


def counts(shop: Shop) -> list[int]:
    tables = ("raw.events", "raw.products", "marts.fct_sessions", "marts.dim_products where product_name is not null")
    return [shop.count(table) for table in tables]
