"""Build all marts from a CSV in the Coveo layout, and compare with a hand-written DuckDB script and with Polars.

Boat loads with every check of the loader and builds every model, without dbt's tests. The script builds the same tables
from the same file, without checks, dead letters and ledger. Both must agree on every value (doubles: to nine digits).
Polars only builds the tables of events, sessions and examples in memory, without ids. Each pipeline runs in a separate
process, one after the other.

    python benchmarks/elt.py [--events 2000000] [--memory 4GB] [--files FOLDER]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from bars import at_most, conclude
from boat import raw_log, synthetic, warehouse

DBT = Path(__file__).parent.parent / "dbt"
SCRIPT = Path(__file__).with_name("elt.sql")
EVENTS_PER_SESSION = 7.31
RATIO_LIMIT, MEMORY_LIMIT_GB = 2.0, 6.0
WAYS = ("by_hand", "polars", "ours")


def ours(files: Path, database: Path, memory: str) -> dict[str, float]:
    """Load and build everything, and return the seconds of each step."""
    started = time.time()
    shop = warehouse.connect(f"duckdb:///{database}?memory_limit={memory}")
    raw_log.load(shop, files)
    loaded = time.time()
    command = [str(Path(sys.executable).with_name("dbt")), "build", "--project-dir", str(DBT), "--profiles-dir"]
    command += [str(DBT), "--exclude", "resource_type:test", "resource_type:unit_test"]
    command += ["--target-path", str(database.parent / "target"), "--log-path", str(database.parent / "logs")]
    environment = {**os.environ, **shop.dbt_environment()}
    with shop.exclusive():
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    first_node = first_start(database.parent / "target")
    return {
        "load_seconds": loaded - started,
        "dbt_start_seconds": first_node - loaded,
        "transform_seconds": time.time() - first_node,
    }


def first_start(target: Path) -> float:
    """Return when dbt started its first node, in seconds since 1970. Print the seconds of each model to stderr."""
    results = json.loads((target / "run_results.json").read_text())["results"]
    for result in sorted(results, key=lambda result: -result["execution_time"]):
        print(f"{result['execution_time']:8.1f} s {result['unique_id']}", file=sys.stderr)
    stamps = [step["started_at"] for result in results for step in result["timing"]]
    return min(datetime.fromisoformat(stamp).timestamp() for stamp in stamps)


def by_hand(files: Path, database: Path, memory: str) -> dict[str, float]:
    """Run the script."""
    with duckdb.connect(database) as connection:
        connection.execute(f"set memory_limit = '{memory}'; set preserve_insertion_order = false")
        connection.execute(SCRIPT.read_text().replace("{files}", str(files)))
    return {}


def polars(files: Path, _database: Path, _memory: str) -> dict[str, float]:
    """Build events, sessions and examples as data frames, and return their rows."""
    import polars as pl

    # Protect the machine: the process ends if the frames do not fit into free memory.
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_DATA, (free, free))
    action = pl.coalesce("product_action", pl.lit("pageview"))
    kind, product = pl.col("event_type"), pl.col("product_id")
    lines = (
        pl.scan_csv(files / "browsing_train.csv")
        .with_row_index("source_line")
        .select(
            session_id="session_id_hash",
            event_type=pl.when(kind == "event_product").then(action).otherwise(kind).cast(pl.Categorical),
            product_id="product_sku_hash",
            event_time=pl.from_epoch("server_timestamp_epoch_ms", "ms"),
            url="hashed_url",
            source_line="source_line",
        )
    )
    counted, content = kind.is_in(["purchase", "add", "remove"]), pl.exclude("source_line")
    events = (
        pl.concat([lines.filter(~counted).unique(content, keep="first"), lines.filter(counted)])
        .sort("session_id", "event_time", kind.replace_strict(FUNNEL, return_dtype=pl.Int8), "source_line")
        .with_columns(
            position=pl.int_range(pl.len()).over("session_id") + 1,
            seconds_since_previous=pl.col("event_time").diff().over("session_id").dt.total_microseconds() / 1e6,
        )
        .collect()
    )
    bought = kind == "purchase"
    sessions = events.group_by("session_id").agg(
        pl.col("event_time").min().alias("started_at"),
        pl.col("event_time").max().alias("ended_at"),
        pl.len().alias("event_count"),
        *((kind == name).sum().alias(f"{name}_count") for name in FUNNEL),
        product.drop_nulls().n_unique().alias("product_count"),
        pl.col("event_time").filter(bought).min().alias("first_purchase_at"),
    )
    joined = events.join(sessions.select("session_id", "started_at", "first_purchase_at"), on="session_id")
    items = joined.filter(kind.is_in(["detail", "add", "purchase"]))
    items = items.filter(product.ne_missing(product.shift().over("session_id")))
    items = items.filter(pl.len().over("session_id") >= 2)
    before = joined.filter(pl.col("first_purchase_at").is_null() | (pl.col("event_time") < pl.col("first_purchase_at")))
    tables = {"fct_session_events": events, "fct_sessions": sessions, "recommend_examples": items}
    return {table: frame.height for table, frame in (tables | {"intent_examples": before}).items()}


FUNNEL = {"pageview": 1, "detail": 4, "add": 5, "remove": 6, "purchase": 7}
RUN: dict[str, Callable[[Path, Path, str], dict[str, float]]] = {"by_hand": by_hand, "polars": polars, "ours": ours}


@dataclass(frozen=True)
class Usage:
    """Time and memory of a pipeline in its process, and the figures that the pipeline reports."""

    seconds: float
    cpu_seconds: float
    peak_rss_gb: float
    figures: dict[str, float]


def timed(way: str, files: Path, database: Path, memory: str) -> Usage | None:
    """Run a pipeline in a process. Return `None` if Polars runs out of memory."""
    arguments = ["--way", way, "--files", str(files), "--database", str(database), "--memory", memory]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([sys.executable, __file__, *arguments], check=False, stdout=subprocess.PIPE, text=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode and way == "polars":
        return None
    process.check_returncode()
    figures = json.loads(process.stdout.splitlines()[-1])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{way}: {seconds:.1f} s, {cpu:.1f} s of CPU, {figures}", file=sys.stderr)
    return Usage(seconds, cpu, figures.pop("peak_rss_gb"), figures)


def contents(database: Path) -> dict[str, dict[str, int]]:
    """Return the row count of every table of the marts, and the sums of hashes of whole rows and of each column."""
    with duckdb.connect(database, read_only=True) as connection:
        tables = connection.execute(
            """select table_name, column_name, data_type from information_schema.columns
            join information_schema.tables using (table_schema, table_name)
            where table_schema = 'marts' and table_type = 'BASE TABLE' order by all"""
        ).fetchall()
        columns: dict[str, dict[str, str]] = {}
        for table, column, data_type in tables:
            # sums and shares of doubles depend on the order of rows
            value = f"round({column}, 9)" if data_type == "DOUBLE" else column
            columns.setdefault(table, {})[column] = value
        sums_by_table = {}
        for table, values in columns.items():
            hashes = {"row": f"hash({', '.join(values.values())})"}
            hashes |= {column: f"hash({value})" for column, value in values.items()}
            sums = ", ".join(f'sum({value}::hugeint) as "{column}"' for column, value in hashes.items())
            (row,) = connection.execute(f"select count(*) as rows, {sums} from marts.{table}").fetchall()
            sums_by_table[table] = dict(zip(["rows", *hashes], row, strict=True))
    return sums_by_table


def check_same(actual: dict[str, dict[str, int]], expected: dict[str, dict[str, int]]) -> None:
    """Raise SystemExit with the names of the columns if two tables differ."""
    if missing := actual.keys() ^ expected.keys():
        raise SystemExit(f"Only one of Boat and the script has the tables {', '.join(sorted(missing))}.")
    for table, sums in actual.items():
        if different := [column for column, value in sums.items() if expected[table].get(column) != value]:
            rows = f"{sums['rows']} rows by Boat, {expected[table]['rows']} by hand"
            raise SystemExit(f"marts.{table} differs in {', '.join(different)}: {rows}.")


def compare(files: Path, folder: Path, memory: str) -> int:
    """Run all pipelines and compare their time, memory and tables."""
    sql = timed("by_hand", files, folder / "by_hand.duckdb", memory)
    expected = contents(folder / "by_hand.duckdb")
    (folder / "by_hand.duckdb").unlink()
    peer = timed("polars", files, folder / "none", memory)
    boat = timed("ours", files, folder / "ours.duckdb", memory)
    assert sql
    assert boat
    check_same(contents(folder / "ours.duckdb"), expected)
    if peer and (wrong := {table for table, rows in peer.figures.items() if rows != expected[table]["rows"]}):
        raise SystemExit(f"Polars builds a different number of rows of {', '.join(sorted(wrong))}.")
    ratio = round(boat.seconds / sql.seconds, 2)
    figures = {
        "events": expected["fct_session_events"]["rows"],
        "seconds": round(boat.seconds, 1),
        **{name: round(seconds, 1) for name, seconds in boat.figures.items()},
        "sql_seconds": round(sql.seconds, 1),
        "polars_seconds": round(peer.seconds, 1) if peer else "out of memory",
        "ratio_to_sql": ratio,
        "cpu_seconds": round(boat.cpu_seconds, 1),
        "sql_cpu_seconds": round(sql.cpu_seconds, 1),
        "polars_cpu_seconds": round(peer.cpu_seconds, 1) if peer else "out of memory",
        "peak_rss_gb": round(boat.peak_rss_gb, 2),
        "sql_peak_rss_gb": round(sql.peak_rss_gb, 2),
        "polars_peak_rss_gb": round(peer.peak_rss_gb, 2) if peer else "out of memory",
    }
    bars = (
        at_most("ratio_to_sql", ratio, RATIO_LIMIT),
        at_most("peak_rss_gb", round(boat.peak_rss_gb, 2), MEMORY_LIMIT_GB),
    )
    return conclude("elt", figures, *bars)


@contextmanager
def landed(files: Path | None, folder: Path, events: int) -> Iterator[Path]:
    """Open a landing folder with the data set. A data set that is already there is used without a change."""
    landing = files or folder / "landing"
    if not (landing / "browsing_train.csv").exists():
        synthetic.generate(landing, sessions=round(events / EVENTS_PER_SESSION), days=90, seed=7)
        (landing / "search_train.csv").unlink()  # the script reads browsing alone
    yield landing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--memory", default="4GB", help="memory limit of DuckDB")
    parser.add_argument("--files", type=Path, help="folder of the data set, created if it is missing")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is None:
        with (
            tempfile.TemporaryDirectory(prefix="boat-benchmark-") as name,
            landed(options.files, Path(name), options.events) as files,
        ):
            return compare(files, Path(name), options.memory)
    figures = RUN[options.way](options.files, options.database, options.memory)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({**figures, "peak_rss_gb": largest / 1024**2}))  # Linux counts in KiB
    return 0


if __name__ == "__main__":
    sys.exit(main())
