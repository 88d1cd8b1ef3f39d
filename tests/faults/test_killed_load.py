"""A loader that is killed at any moment neither loses nor duplicates events."""

import json
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boat.raw_log import load
from boat.warehouse.duckdb import DuckDBWarehouse

FILES, EVENTS = 3, 1500
pytestmark = pytest.mark.faults


def write_files(folder: Path, attempt: int) -> None:
    """Write new files. Each repeats half of the events of the previous one."""
    for number in range(attempt * FILES, (attempt + 1) * FILES):
        ids = range(number * EVENTS // 2, number * EVENTS // 2 + EVENTS)
        lines = [
            {"event_id": str(number), "session_id": "s", "event_time": 1704067200 + number, "event_type": "pageview"}
            for number in ids
        ]
        lines += [{"event_id": f"bad {number}", "session_id": "s", "event_type": "pageview"}]
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"20240101T000000-{number:08x}.ndjson").write_text(content)


def load_each(url: str, folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        load(DuckDBWarehouse(url), file)


def killed_after(seconds: float, work: Callable[..., None], *arguments: object) -> bool:
    """Run work in a process and kill it. Return whether it was still running."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    time.sleep(seconds)
    working = process.is_alive()
    process.kill()
    process.join()
    return working


def disagreements(warehouse: DuckDBWarehouse) -> list[dict[str, object]]:
    """Return ledger rows that differ from the tables, and table rows without a ledger row."""
    with warehouse.transaction() as transaction:
        return transaction.query(
            """with held as (
                select load_id, count(*) filter (kind = 'event') as events, count(*) filter (kind = 'letter') as letters
                from (select load_id, 'event' as kind from raw.events
                    union all select load_id, 'letter' from raw.dead_letters) group by load_id)
            select * from raw.loads full join held using (load_id)
            where accepted is distinct from coalesce(events, 0) or failed is distinct from coalesce(letters, 0)
                or received <> accepted + duplicate + failed"""
        ).to_pylist()


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_loader_that_is_killed_repeatedly_loads_every_event_once(tmp_path: Path, kills: int) -> None:
    folder, chance = tmp_path / "landing", random.Random(kills)
    folder.mkdir()
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")
    write_files(folder, 0)
    began = time.monotonic()
    load(warehouse, min(folder.iterdir()))
    span = (time.monotonic() - began) * FILES  # the approximate time of a complete attempt on this machine
    interrupted = 0
    for attempt in range(1, kills + 1):
        write_files(folder, attempt)
        interrupted += killed_after(chance.uniform(0, span), load_each, f"duckdb:///{warehouse.path}", folder)
        assert disagreements(warehouse) == []
    assert interrupted > kills / 3
    load(warehouse, folder)
    files = (kills + 1) * FILES
    with warehouse.transaction() as transaction:
        counted = transaction.query("select count(*) as rows, count(distinct event_id) as ids from raw.events")
        ledger = transaction.query("select sum(received)::int as received, sum(failed)::int as failed from raw.loads")
    expected = (files - 1) * EVENTS // 2 + EVENTS
    assert counted.to_pylist() == [{"rows": expected, "ids": expected}]
    assert ledger.to_pylist() == [{"received": files * (EVENTS + 1), "failed": files}]
    assert disagreements(warehouse) == []
