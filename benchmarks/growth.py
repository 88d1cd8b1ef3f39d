"""What one more day costs as history grows: loading it and `dbt build` with all its tests on 9, 30 and 90 days.

The days are the last of one synthetic shop, so the day that comes is the same whatever lies before it.

    python benchmarks/growth.py [--sessions-a-day 1000]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bars import at_most, conclude
from boat import landing, synthetic, warehouse
from boat.warehouse import Warehouse

DBT = Path(__file__).parent.parent / "dbt"
HISTORIES = (9, 30, 90)
NIGHTS = 2
LIMIT = 1.3


def build(shop: Warehouse, folder: Path) -> None:
    """`dbt build`, as the ingestion flow runs it."""
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
    """A raw log of the longest history and the nights after it."""
    count = max(HISTORIES) + NIGHTS
    synthetic.generate(folder / "landing", sessions=sessions_a_day * count, days=count, seed=7)
    shop = warehouse.connect(f"duckdb:///{folder}/all.duckdb")
    landing.load(shop, folder / "landing")
    return shop


def export(shop: Warehouse, path: Path, first: int, last: int) -> Path:
    """Write the events of some days, counted back from the newest, which is 0, to a landing file."""
    day = "date_diff('day', cast(event_time as date), (select max(cast(event_time as date)) from raw.events))"
    columns = "event_id, shop, session_id, event_time, event_type, product_id, url, query, price, quantity"
    with shop.session() as session:
        session.export(
            f"select {columns} from raw.events where {day} between {last} and {first}", path, ["event_time", "event_id"]
        )
    return path


def night_seconds(everything: Warehouse, folder: Path, history: int) -> float:
    """The quicker of the nights on so many days: other work on the machine only ever adds to one."""
    folder.mkdir()
    shop = warehouse.connect(f"duckdb:///{folder}/warehouse.duckdb")
    landing.load(shop, export(everything, folder / "history.parquet", NIGHTS + history - 1, NIGHTS))
    build(shop, folder)
    seconds = []
    for ago in reversed(range(NIGHTS)):
        day = export(everything, folder / f"night-{ago}.parquet", ago, ago)
        started = time.monotonic()
        landing.load(shop, day)
        build(shop, folder)
        seconds.append(time.monotonic() - started)
    return min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions-a-day", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-") as name:
        folder = Path(name)
        everything = days(folder, options.sessions_a_day)
        seconds = {history: night_seconds(everything, folder / str(history), history) for history in HISTORIES}
    ratio = round(seconds[90] / seconds[9], 3)
    figures = {f"seconds_{history}": round(taken, 2) for history, taken in seconds.items()}
    return conclude("growth", {**figures, "ratio_90_to_9": ratio}, at_most("ratio_90_to_9", ratio, LIMIT))


if __name__ == "__main__":
    sys.exit(main())
