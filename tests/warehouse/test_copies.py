"""Programs read copies of the warehouse: they block no load, and no load disturbs them."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb

from boat import raw_log
from boat.warehouse.duckdb import DuckDBWarehouse

HOURS = 24
READER = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for line in sys.stdin:
        print(connection.execute("select count(*), max(event_id) from raw.events").fetchone(), flush=True)
"""


def load_hour(shop: DuckDBWarehouse, folder: Path, hour: int) -> None:
    """Load a file with one event."""
    event = {"session_id": "s", "event_id": f"{hour:02}", "event_time": f"2024-05-01T{hour:02}:00:00"}
    file = folder / f"{hour}.ndjson"
    file.write_text(json.dumps({**event, "event_type": "pageview"}))
    raw_log.load(shop, file)


def test_a_reader_stays_open_through_a_day_of_hourly_loads(tmp_path: Path) -> None:
    shop = DuckDBWarehouse(f"duckdb:///{tmp_path / 'shop.duckdb'}")
    load_hour(shop, tmp_path, 0)
    first = shop.publish_copy()
    command = [sys.executable, "-c", READER, str(first)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin
        assert reader.stdout
        for hour in range(1, HOURS):
            load_hour(shop, tmp_path, hour)
            newest = shop.publish_copy()
            with duckdb.connect(newest, read_only=True) as connection:
                assert connection.execute("select count(*) from raw.events").fetchone() == (hour + 1,)
            reader.stdin.write("read\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "(1, '00')\n"
        reader.stdin.close()
        assert reader.wait(30) == 0
    assert [copy.name for copy in sorted(shop.copies.iterdir())] == ["000023.duckdb", "000024.duckdb"]
