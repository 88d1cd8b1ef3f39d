"""Measure the cost of one more day as history grows: load it and run `dbt build` with all tests on 9, 30 and 90 days.

The days are the last days of one synthetic shop, so the new day is the same for each length of history. The history is
loaded at once, which is the worst case: its rows are not in order of time. The figures are the seconds in total, the
seconds without dbt's start, and the processor time.

    python benchmarks/growth.py [--sessions-a-day 5000]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bars import at_most, conclude
from boat import raw_log, synthetic, warehouse
from boat.warehouse import Warehouse
from elt import first_start

DBT = Path(__file__).parent.parent / "dbt"
HISTORIES = (9, 30, 90)
NIGHTS = 2
LIMIT = 1.3


def build(shop: Warehouse, folder: Path) -> None:
    """Run `dbt build` as the ingestion flow does."""
    command = [
        str(Path(sys.executable).with_name("dbt")),
        "build",
        "--project-dir",
        str(DBT),
        "--profiles-dir",
        str(DBT),
    ]
    command += ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    with shop.exclusive():
        subprocess.run(command, env={**os.environ, **shop.dbt_environment()}, check=True, stdout=sys.stderr)


def days(folder: Path, sessions_a_day: int) -> Warehouse:
    """Create a raw log with the longest history and the nights after it."""
    count = max(HISTORIES) + NIGHTS
    synthetic.generate(folder / "landing", sessions=sessions_a_day * count, days=count, seed=7)
    shop = warehouse.connect(f"duckdb:///{folder}/all.duckdb")
    raw_log.load(shop, folder / "landing")
    return shop


def export(shop: Warehouse, path: Path, first: int, last: int) -> Path:
    """Write the events of some days, counted back from the newest, which is 0, to a landing file."""
    day = "date_diff('day', cast(event_time as date), (select max(cast(event_time as date)) from raw.events))"
    columns = "event_id, shop, session_id, event_time, event_type, product_id, url, query, price, quantity"
    with shop.transaction() as transaction:
        transaction.export(
            f"select {columns} from raw.events where {day} between {last} and {first}", path, ["event_time", "event_id"]
        )
    return path


@dataclass(frozen=True)
class Night:
    """Seconds of a night in total, without dbt's start, and of processor time."""

    seconds: float
    work_seconds: float
    cpu_seconds: float


def cpu_seconds() -> float:
    """Return the processor time of this process and its finished child processes."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def night(shop: Warehouse, folder: Path, day: Path) -> Night:
    """Load a day, build the warehouse and return the seconds."""
    started, cpu = time.time(), cpu_seconds()
    raw_log.load(shop, day)
    loaded = time.time()
    build(shop, folder)
    seconds = time.time() - started
    dbt_start = first_start(folder / "target") - loaded
    return Night(seconds, seconds - dbt_start, cpu_seconds() - cpu)


def quickest_night(full_log: Warehouse, folder: Path, history: int) -> Night:
    """Return the shortest times of the nights after a history: other work on the machine only makes a night longer."""
    folder.mkdir()
    shop = warehouse.connect(f"duckdb:///{folder}/warehouse.duckdb")
    raw_log.load(shop, export(full_log, folder / "history.parquet", NIGHTS + history - 1, NIGHTS))
    build(shop, folder)
    nights = [
        night(shop, folder, export(full_log, folder / f"night-{ago}.parquet", ago, ago))
        for ago in reversed(range(NIGHTS))
    ]
    return Night(
        min(night.seconds for night in nights),
        min(night.work_seconds for night in nights),
        min(night.cpu_seconds for night in nights),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions-a-day", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-") as name:
        folder = Path(name)
        full_log = days(folder, options.sessions_a_day)
        nights = {history: quickest_night(full_log, folder / str(history), history) for history in HISTORIES}
    figures = {
        f"{field}_{history}": round(value, 2)
        for history, night in nights.items()
        for field, value in vars(night).items()
    }
    ratio = round(nights[90].seconds / nights[9].seconds, 3)
    cpu_ratio = round(nights[90].cpu_seconds / nights[9].cpu_seconds, 3)
    figures |= {"ratio_90_to_9": ratio, "cpu_ratio_90_to_9": cpu_ratio}
    return conclude("growth", figures, at_most("ratio_90_to_9", ratio, LIMIT))


if __name__ == "__main__":
    sys.exit(main())
