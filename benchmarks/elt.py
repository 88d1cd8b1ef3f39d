"""From a CSV of the Coveo layout to all marts, beside a DuckDB script written by hand.

Ours loads with every check of the loader and builds every model, without dbt's tests. The script makes the tables of
events, sessions, products and examples alone, from the same file, with neither checks nor the KPI tables: what it
leaves out counts against us. Both run in processes of their own, one after the other, and must agree on the rows.

    python benchmarks/elt.py [--events 2000000] [--memory 4GB]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from bars import at_most, conclude
from boat import landing, synthetic, warehouse

DBT = Path(__file__).parent.parent / "dbt"
EVENTS_A_SESSION = 7.31
TABLES = ("fct_session_events", "fct_sessions", "dim_products", "next_item_examples", "intent_examples")
RATIO_LIMIT, MEMORY_LIMIT_GB = 2.0, 6.0
FUNNEL = (
    """case event_type when 'pageview' then 1 when 'detail' then 4 when 'add' then 5 when 'remove' then 6 else 7 end"""
)
SCRIPT = f"""
create schema marts;
create table raw as
select distinct session_id_hash as session_id,
    case when event_type = 'pageview' or product_action is null then 'pageview' else product_action end as event_type,
    product_sku_hash as product_id, make_timestamp(server_timestamp_epoch_ms * 1000) as event_time, hashed_url as url
from read_csv('{{browsing}}', header = true, columns = {{{{'session_id_hash': 'varchar', 'event_type': 'varchar',
    'product_action': 'varchar', 'product_sku_hash': 'varchar', 'server_timestamp_epoch_ms': 'bigint',
    'hashed_url': 'varchar'}}}});
create table marts.fct_session_events as
select 'shop:' || session_id as session_key, session_id, event_time, event_type, product_id, url,
    row_number() over in_session as position,
    (epoch_us(event_time) - epoch_us(lag(event_time) over in_session)) / 1000000 as seconds_since_previous
from raw window in_session as (partition by session_id order by event_time, {FUNNEL});
create table marts.fct_sessions as
select session_key, min(event_time) as started_at, max(event_time) as ended_at, count(*) as event_count,
    count(*) filter (event_type = 'pageview') as pageview_count,
    count(*) filter (event_type = 'detail') as detail_count,
    count(*) filter (event_type = 'add') as add_count, count(*) filter (event_type = 'remove') as remove_count,
    count(*) filter (event_type = 'purchase') as purchase_count, count(distinct product_id) as product_count,
    min(event_time) filter (event_type = 'purchase') as first_purchase_at
from marts.fct_session_events group by session_key;
create table marts.dim_products as
select coalesce(seen.product_id, entry.product_sku_hash) as product_id,
    category_hash as category, price_bucket as price, first_seen_at, coalesce(event_count, 0) as event_count
from (select product_id, min(event_time) as first_seen_at, count(*) as event_count
    from marts.fct_session_events where product_id is not null group by product_id) as seen
full join read_csv('{{catalogue}}', header = true) as entry on entry.product_sku_hash = seen.product_id;
create table marts.next_item_examples as
select session_key, started_at, item_position as position, event_time, event_type, product_id
from (select *, row_number() over (partition by session_key order by position) as item_position,
        count(*) over (partition by session_key) as item_count
    from (select *, lag(product_id) over (partition by session_key order by position) as previous_product_id
        from marts.fct_session_events where event_type in ('detail', 'add', 'purchase'))
    where product_id is distinct from previous_product_id)
join marts.fct_sessions using (session_key) where item_count >= 2;
create table marts.intent_examples as
select session_key, started_at, position, event_time, event_type, product_id, url,
    first_purchase_at is not null as is_purchase
from marts.fct_session_events join marts.fct_sessions using (session_key)
where first_purchase_at is null or event_time < first_purchase_at;
"""


def ours(files: Path, database: Path, memory: str) -> None:
    """Load and build everything."""
    shop = warehouse.connect(f"duckdb:///{database}?memory_limit={memory}")
    landing.load(shop, files)
    command = [
        str(Path(sys.executable).with_name("dbt")),
        "build",
        "--project-dir",
        str(DBT),
        "--profiles-dir",
        str(DBT),
    ]
    command += ["--exclude", "resource_type:test", "resource_type:unit_test"]
    command += ["--target-path", str(database.parent / "target"), "--log-path", str(database.parent / "logs")]
    environment = {**os.environ, **shop.dbt_environment()}
    with shop.exclusive():
        subprocess.run(command, env=environment, check=True, stdout=sys.stderr)


def by_hand(files: Path, database: Path, memory: str) -> None:
    """The script."""
    with duckdb.connect(database) as connection:
        connection.execute(f"set memory_limit = '{memory}'; set preserve_insertion_order = false")
        connection.execute(SCRIPT.format(browsing=files / "browsing_train.csv", catalogue=files / "sku_to_content.csv"))


def timed(way: str, files: Path, database: Path, memory: str) -> tuple[float, float]:
    """Seconds and the largest resident set in GB of a way in a process of its own."""
    arguments = ["--way", way, "--files", str(files), "--database", str(database), "--memory", memory]
    started = time.monotonic()
    process = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - started, float(process.stdout.splitlines()[-1])


def rows(database: Path) -> dict[str, int]:
    """How many rows the tables have."""
    with duckdb.connect(database, read_only=True) as connection:
        return {table: connection.table(f"marts.{table}").count("*").fetchall()[0][0] for table in TABLES}


def compare(events: int, memory: str) -> int:
    """Both ways beside each other."""
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-") as name:
        folder, files = Path(name), Path(name, "landing")
        synthetic.generate(files, sessions=round(events / EVENTS_A_SESSION), days=90, seed=7)
        (files / "search_train.csv").unlink(missing_ok=True)  # the script reads browsing alone
        sql_seconds, _ = timed("by_hand", files, folder / "by_hand.duckdb", memory)
        seconds, peak = timed("ours", files, folder / "ours.duckdb", memory)
        made, expected = rows(folder / "ours.duckdb"), rows(folder / "by_hand.duckdb")
    if made != expected:
        raise SystemExit(f"The two do not agree: {made} here, {expected} by hand.")
    ratio = round(seconds / sql_seconds, 2)
    figures = {
        "events": made["fct_session_events"],
        "seconds": round(seconds, 1),
        "sql_seconds": round(sql_seconds, 1),
        "ratio_to_sql": ratio,
        "peak_rss_gb": round(peak, 2),
    }
    return conclude(
        "elt", figures, at_most("ratio_to_sql", ratio, RATIO_LIMIT), at_most("peak_rss_gb", peak, MEMORY_LIMIT_GB)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--memory", default="4GB", help="what DuckDB may take for itself")
    parser.add_argument("--way", choices=["ours", "by_hand"], help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--database", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is None:
        return compare(options.events, options.memory)
    {"ours": ours, "by_hand": by_hand}[options.way](options.files, options.database, options.memory)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(largest / 1024**2)  # Linux counts in KiB
    return 0


if __name__ == "__main__":
    sys.exit(main())
