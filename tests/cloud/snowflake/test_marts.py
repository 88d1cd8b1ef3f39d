"""Load, dbt build with all tests, expectations and snapshot on Snowflake, compared with DuckDB."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boat import quality, raw_log, snapshot
from boat.transform import dbt
from expectations import suites
from tests.cloud.snowflake.account import Account
from tests.transform.conftest import Build, build, connect, shop_events

pytestmark = [
    pytest.mark.cloud,
    # The schema belongs to the asset, because a source has tables in two schemas.
    pytest.mark.filterwarnings("ignore:`schema_name` is deprecated:DeprecationWarning"),
]

MARTS = {
    "cart_sessions": "session_key",
    "daily_volume": "shop, day",
    "dim_products": "shop, product_id",
    "fct_adds": "session_key, position",
    "fct_clicks": "session_key, position",
    "fct_details": "session_key, position",
    "fct_pageviews": "session_key, position",
    "fct_purchases": "event_id",
    "fct_removes": "session_key, position",
    "fct_searches": "session_key, position",
    "fct_session_events": "session_key, position",
    "fct_sessions": "session_key",
    "fct_transactions": "session_key, purchased_at",
    "intent_examples": "session_key, position",
    "kpi_daily": "shop, day",
    "kpi_hourly": "shop, hour",
    "recommend_examples": "session_key, position",
    "session_event_arrays": "session_key",
}
TAG = "boat 7d3a0b08-flow-run"


class Shops(NamedTuple):
    """A shop, built on Snowflake and on DuckDB."""

    snowflake: Build
    duckdb: Build


@pytest.fixture(scope="module")
def shops(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Shops:
    folder, embedded = tmp_path_factory.mktemp("snowflake-shop"), tmp_path_factory.mktemp("duckdb-shop")
    files = folder / "landing"
    files.mkdir()
    (files / "events.ndjson").write_text("".join(json.dumps(event) + "\n" for event in shop_events()))
    (files / "products.ndjson").write_text(
        '{"product_id": "p1", "product_name": "Mug", "price": 2.5, "description_vector": [0.25, -1]}\n'
        '{"product_id": "unsold", "product_name": "Hat"}\n'
    )
    warehouse = account.database(tag=TAG)
    raw_log.load(warehouse, files)
    plain = connect(embedded, shop_events())
    raw_log.load(plain, files / "products.ndjson")
    # The nightly build on DuckDB runs the unit tests.
    on_snowflake = build(warehouse, folder, "--exclude-resource-type", "unit_test")
    return Shops(on_snowflake, build(plain, embedded, "--select", "resource_type:model"))


def test_every_model_builds_and_every_test_passes(shops: Shops) -> None:
    assert shops.snowflake.code == 0, shops.snowflake.output
    results = dbt.read_results(shops.snowflake.target)
    assert {result.status for result in results} == {"success", "pass", "no-op"}
    kinds = [result.resource_type for result in results]
    assert min(kinds.count(kind) for kind in ("model", "test")) >= 9


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """Parse arrays, which Snowflake returns as JSON."""
    is_list = {name: isinstance(value, str) and value.startswith("[") for name, value in row.items()}
    return {name: json.loads(value) if is_list[name] else value for name, value in row.items()}


@pytest.mark.parametrize("mart", MARTS)
def test_a_mart_has_the_same_rows_as_on_duckdb(shops: Shops, mart: str) -> None:
    query = f"select * from marts.{mart} order by {MARTS[mart]}"
    expected = [unpacked(row) for row in shops.duckdb.rows(query)]
    assert [unpacked(row) for row in shops.snowflake.rows(query)] == expected
    assert expected


def test_every_mart_is_compared(shops: Shops) -> None:
    tables = shops.duckdb.rows("select table_name from information_schema.tables where table_schema = 'marts'")
    assert {row["table_name"] for row in tables} == set(MARTS)


@pytest.mark.parametrize("unload", [True, False], ids=["unloaded", "streamed"])
def test_a_snapshot_has_the_same_bytes_as_on_duckdb(
    shops: Shops, account: Account, tmp_path: Path, unload: bool
) -> None:
    (row,) = shops.snowflake.rows("select current_database() as name")
    warehouse = account.database(unload=unload, name=row["name"])
    ours = snapshot.take(warehouse, tmp_path / "ours", dbt_manifest="same")
    theirs = snapshot.take(shops.duckdb.warehouse, tmp_path / "theirs", dbt_manifest="same")
    assert ours.digest == theirs.digest
    assert snapshot.read(ours.uri) == snapshot.read(theirs.uri)


def test_expectations_pass_and_do_not_store_the_key(shops: Shops, account: Account, tmp_path: Path) -> None:
    report = quality.check(shops.snowflake.warehouse, suites(), tmp_path)
    quality.raise_for(report)
    assert report.count() == {"passed": len(report.checks)}
    key = str(shops.snowflake.warehouse.connect_arguments()["private_key"])
    folders = (tmp_path, shops.snowflake.target, shops.snowflake.target.parent / "logs")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 100
    for file in files:
        assert key[:40].encode() not in file.read_bytes(), file


def test_a_broken_expectation_is_found_in_snowflake(shops: Shops, tmp_path: Path) -> None:
    (ledger,) = [suite for suite in suites() if suite.name == "raw.loads"]
    with shops.snowflake.warehouse.transaction() as transaction:
        transaction.execute("update raw.loads set accepted = accepted - 1")
    try:
        report = quality.check(shops.snowflake.warehouse, [ledger], tmp_path)
    finally:
        with shops.snowflake.warehouse.transaction() as transaction:
            transaction.execute("update raw.loads set accepted = accepted + 1")
    assert {check.table for check in report.where("failed")} == {"raw.loads"}


def test_statements_of_each_tool_have_the_tag(shops: Shops, account: Account, tmp_path: Path) -> None:
    quality.check(shops.snowflake.warehouse, [suites()[0]], tmp_path)
    tagged = " ".join(
        " ".join(statement["sql"].lower().split()) for statement in account.history() if statement["tag"] == TAG
    )
    for statement in (
        "copy into raw.landing_rows",  # the loader
        "create or replace view",  # dbt
        "as anon_1",  # Great Expectations
    ):
        assert statement in tagged
