"""Contract of all warehouse back ends. The tests of a back end inherit `WarehouseContract`."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy

from boat.errors import BoatError, SettingError
from boat.raw_log import tables
from boat.warehouse import Warehouse, connect
from boat.warehouse.duckdb import DuckDBWarehouse

if TYPE_CHECKING:
    from tests.cloud.snowflake.account import Account


class WarehouseContract(ABC):
    """Inherit it and override `warehouse`."""

    @pytest.fixture
    @abstractmethod
    def warehouse(self) -> Warehouse:
        """Return the back end to test, with an empty database."""

    def test_a_transaction_reads_the_rows_of_an_earlier_one(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
            transaction.execute("insert into t values (?), (?)", [1, 2])
        with warehouse.transaction() as transaction:
            assert transaction.query("select n from t order by n").column("n").to_pylist() == [1, 2]

    def test_an_error_rolls_the_transaction_back(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
        with pytest.raises(ZeroDivisionError), warehouse.transaction() as transaction:  # noqa: PT012
            transaction.execute("insert into t values (1)")
            raise ZeroDivisionError
        with warehouse.transaction() as transaction:
            assert transaction.query("select count(*) as n from t").to_pylist() == [{"n": 0}]

    def test_only_one_of_many_transactions_inserts_a_missing_row(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")

        def add(_: int) -> None:
            with warehouse.transaction() as transaction:
                transaction.query(
                    "select count(*) as n from t"
                )  # the insert must not use this read from before the lock
                transaction.lock()
                transaction.execute("insert into t select 1 where not exists (select 1 from t)")
                time.sleep(0.05)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(add, range(16)))
        with warehouse.transaction() as transaction:
            assert transaction.query("select n from t").to_pylist() == [{"n": 1}]

    def test_a_failed_statement_rolls_the_transaction_back(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
        with pytest.raises(Exception, match=r"(?i)missing"), warehouse.transaction() as transaction:  # noqa: PT012
            transaction.execute("insert into t values (1)")
            transaction.execute("insert into missing values (1)")
        with warehouse.transaction() as transaction:
            assert transaction.query("select count(*) as n from t").to_pylist() == [{"n": 0}]

    def test_a_query_gives_typed_columns_with_names_in_lower_case(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            rows = transaction.query(
                "select 'a' as Text, cast(1.5 as double) as PRICE, timestamp '2024-02-29 12:00:00.123' as moment, "
                "cast(null as timestamp) as never, cast(null as varchar) as nothing"
            )
        assert rows.column_names == ["text", "price", "moment", "never", "nothing"]
        moment = datetime(2024, 2, 29, 12, 0, 0, 123000)
        assert rows.to_pylist() == [{"text": "a", "price": 1.5, "moment": moment, "never": None, "nothing": None}]
        assert rows.schema.field("moment").type == pa.timestamp("us")

    def test_parameters_are_values_and_never_sql(self, warehouse: Warehouse) -> None:
        hostile = "'; drop table t; --"
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (v varchar)")
            transaction.execute("insert into t values (?)", [hostile])
            assert transaction.query("select v from t where v = ?", [hostile]).to_pylist() == [{"v": hostile}]

    def test_an_export_is_sorted_and_returns_the_number_of_rows(self, warehouse: Warehouse, tmp_path: Path) -> None:
        path = tmp_path / "it's rows.parquet"
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
            transaction.execute("insert into t " + " union all ".join(f"select {n * 7919 % 5000}" for n in range(100)))
            assert transaction.export("select n from t", path, ["n desc"]) == 100
        exported = pq.read_table(path).column(0).to_pylist()
        assert exported == sorted((n * 7919 % 5000 for n in range(100)), reverse=True)

    def test_an_export_without_rows_is_a_file_with_columns(self, warehouse: Warehouse, tmp_path: Path) -> None:
        with warehouse.transaction() as transaction:
            assert transaction.export("select 1 as n where 1 = 0", tmp_path / "empty.parquet", ["n"]) == 0
        assert pq.read_table(tmp_path / "empty.parquet").num_columns == 1

    def test_an_export_has_the_same_bytes_as_one_of_duckdb(self, warehouse: Warehouse, tmp_path: Path) -> None:
        rows = """select cast(column1 as bigint) as n, column2 as text, cast(column3 as double) as price,
                cast(column4 as timestamp) as moment, column1 > 1 as large, cast(column4 as date) as day
            from (values (2, 'b', 0.1, '2024-02-29 12:00:00.123456'), (3, 'ä', 2.5, '1969-12-31 23:59:59'),
                (1, null, null, null)) as v (column1, column2, column3, column4)"""
        with warehouse.transaction() as transaction:
            transaction.export(rows, tmp_path / "theirs.parquet", ["n"])
        with connect(f"duckdb:///{tmp_path / 'plain.duckdb'}").transaction() as transaction:
            transaction.export(rows, tmp_path / "plain.parquet", ["n"])
        assert (tmp_path / "theirs.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()

    def test_an_export_of_several_row_groups_has_the_same_bytes_as_one_of_duckdb(
        self, warehouse: Warehouse, tmp_path: Path
    ) -> None:
        digits = f"(values {', '.join(f'({digit})' for digit in range(12))})"
        columns = ", ".join(f"{digits} as d{position} (n)" for position in range(5))
        rows = f"""select cast(d0.n + 12 * d1.n + 144 * d2.n + 1728 * d3.n + 20736 * d4.n as bigint) as n,
                'p' || cast(d1.n * d3.n as varchar) as product
            from {columns}"""
        with warehouse.transaction() as transaction:
            assert transaction.export(rows, tmp_path / "theirs.parquet", ["n"]) == 12**5
        with connect(f"duckdb:///{tmp_path / 'plain.duckdb'}").transaction() as transaction:
            transaction.export(rows, tmp_path / "plain.parquet", ["n"])
        assert pq.ParquetFile(tmp_path / "plain.parquet").num_row_groups > 1
        assert (tmp_path / "theirs.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()

    def test_rows_of_the_scratch_database_are_uploaded(self, warehouse: Warehouse) -> None:
        sql = """select i, 'it''s "' || i as text, i / 8 as price, timestamp '2024-01-01 00:00:00.000001' as moment,
            cast(null as timestamp) as never from range(5) as rows(i)"""
        with warehouse.transaction() as transaction, transaction.scratch() as local:
            for start in (0, 5):  # two uploads in a transaction
                local.execute(
                    f"create or replace temp table uploads as select * replace (i + {start} as i) from ({sql})"
                )
                with transaction.upload(local, "select * from uploads") as uploaded:
                    rows = transaction.query(f"select * from {uploaded} as r where i >= {start} order by i").to_pylist()
                assert [row["i"] for row in rows] == list(range(start, start + 5))
        assert rows[1] == {
            "i": 6,
            "text": "it's \"1",
            "price": 0.125,
            "moment": datetime(2024, 1, 1, 0, 0, 0, 1),
            "never": None,
        }

    def test_the_raw_log_is_created_once_and_completed_later(self, warehouse: Warehouse) -> None:
        row = "insert into raw.loads values ('l', 'f', 'd', 'events', 1, 1, 0, 0, timestamp '2024-01-01 00:00:00')"
        with warehouse.transaction() as transaction:
            tables.ensure(transaction)
            transaction.execute(row)
        with warehouse.transaction() as transaction:
            tables.ensure(transaction)
            transaction.execute("drop table raw.dead_letters")
        with warehouse.transaction() as transaction:
            tables.ensure(transaction)  # completes a raw log of an older version
            assert transaction.query("select * from raw.dead_letters").num_rows == 0
            assert transaction.query("select load_id from raw.loads").to_pylist() == [{"load_id": "l"}]

    def test_the_environment_names_the_dbt_target(self, warehouse: Warehouse) -> None:
        assert warehouse.dbt_environment()["BOAT_DBT_TARGET"] == warehouse.dialect

    def test_a_transaction_opens_inside_the_exclusive_lock(self, warehouse: Warehouse) -> None:
        with warehouse.exclusive(), warehouse.exclusive(), warehouse.transaction() as transaction:
            assert transaction.query("select 1 as n").to_pylist() == [{"n": 1}]

    def test_sqlalchemy_reads_rows_after_the_connection_is_closed(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
            transaction.execute("insert into t values (1), (2), (3)")
        engine = sqlalchemy.create_engine(warehouse.sqlalchemy_url(), connect_args=dict(warehouse.connect_arguments()))
        try:
            with engine.connect() as connection:
                result = connection.execute(sqlalchemy.text("select n from t where n > :low order by n"), {"low": 1})
            assert [tuple(row) for row in result] == [(2,), (3,)]
        finally:
            engine.dispose()


_HOLD = """
import sys, time
from boat.warehouse import connect
with connect(sys.argv[1]).{how}():
    print("held", flush=True)
    time.sleep(60)
"""


class TestDuckDB(WarehouseContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"duckdb:///{tmp_path / 'new folder' / 'warehouse.duckdb'}"

    @pytest.fixture
    def warehouse(self, url: str) -> Warehouse:
        return connect(url)

    def test_ddl_of_a_failed_transaction_is_rolled_back(self, warehouse: Warehouse) -> None:
        with pytest.raises(ZeroDivisionError), warehouse.transaction() as transaction:  # noqa: PT012
            transaction.execute("create table t (n integer)")
            raise ZeroDivisionError
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")

    @pytest.fixture(params=["exclusive", "transaction"])
    def holder(self, request: pytest.FixtureRequest, url: str) -> Iterator[subprocess.Popen[str]]:
        """Start a second process that locks the warehouse."""
        command = [sys.executable, "-c", _HOLD.format(how=request.param), url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    def test_another_process_waits_for_the_lock(self, holder: subprocess.Popen[str], url: str) -> None:
        with (
            pytest.raises(BoatError, match=r"locked the warehouse .*warehouse\.duckdb for 0\.2 s"),
            DuckDBWarehouse(url).exclusive(0.2),
        ):
            pytest.fail("two processes at once")

    def test_the_lock_of_a_killed_process_is_released(self, holder: subprocess.Popen[str], url: str) -> None:
        os.kill(holder.pid, signal.SIGKILL)
        started = time.monotonic()
        with connect(url).transaction() as transaction:
            transaction.execute("create table t (n integer)")
        assert time.monotonic() - started < 10

    def test_a_program_that_has_the_file_open_without_the_lock_is_named(self, warehouse: DuckDBWarehouse) -> None:
        with warehouse.transaction():
            pass
        foreign = f"import duckdb, time; c = duckdb.connect({str(warehouse.path)!r}); print(flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", foreign], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with (
                pytest.raises(BoatError, match=rf"PID {process.pid}.*Close the other program"),
                warehouse.transaction(),
            ):
                pytest.fail("opened")
            process.kill()

    def test_a_file_that_is_not_a_database_is_named(self, warehouse: DuckDBWarehouse) -> None:
        warehouse.path.parent.mkdir()
        warehouse.path.write_text("not a database, but long enough to be looked at as one" * 100)
        with pytest.raises(BoatError, match=r"Cannot open the warehouse .*warehouse\.duckdb"), warehouse.transaction():
            pytest.fail("opened")

    def test_the_next_process_can_open_the_file(self, warehouse: DuckDBWarehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t (n integer)")
        count = f"import duckdb; print(duckdb.connect({str(warehouse.path)!r}).sql('from t').shape)"
        counted = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True, timeout=60)
        assert counted.stdout == "(0, 1)\n"

    def test_the_url_can_limit_memory_and_threads(self, url: str) -> None:
        with connect(url + "?memory_limit=256MB&threads=1").transaction() as transaction:
            limits = transaction.query(
                "select current_setting('threads') t, current_setting('memory_limit') m"
            ).to_pylist()
        assert limits == [{"t": 1, "m": "244.1 MiB"}]

    @pytest.mark.parametrize("url", ["duckdb:///", "duckdb:///:memory:", "duckdb://host/x", "duckdb:///x?colour=red"])
    def test_an_invalid_url_is_refused(self, url: str) -> None:
        with pytest.raises(SettingError):
            connect(url)

    def test_dbt_gets_the_absolute_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert connect("duckdb:///w.duckdb").dbt_environment()["BOAT_DUCKDB_PATH"] == str(tmp_path / "w.duckdb")

    def test_dbt_gets_the_limits_of_the_url_or_the_defaults_of_duckdb(self) -> None:
        limited = connect("duckdb:///w.duckdb?memory_limit=256MB").dbt_environment()
        free = connect("duckdb:///w.duckdb").dbt_environment()
        assert limited["BOAT_DUCKDB_MEMORY_LIMIT"] == "256MB"
        assert limited["BOAT_DUCKDB_THREADS"] == free["BOAT_DUCKDB_THREADS"] != "0"
        assert free["BOAT_DUCKDB_MEMORY_LIMIT"].endswith("iB")

    def test_times_with_a_zone_are_read_in_utc(self, warehouse: Warehouse) -> None:
        with warehouse.transaction() as transaction:
            row = transaction.query(
                "select cast(timestamptz '2024-01-01 00:00:00+02:00' as timestamp) as t"
            ).to_pylist()
        assert row == [{"t": datetime(2023, 12, 31, 22)}]

    def test_the_file_opens_with_plain_duckdb(self, warehouse: DuckDBWarehouse) -> None:
        with warehouse.transaction() as transaction:
            transaction.execute("create table t as select 42 as n")
        with duckdb.connect(warehouse.path, read_only=True) as connection:
            assert connection.sql("from t").fetchall() == [(42,)]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Account"]:
    from tests.cloud.snowflake.account import running_account

    with running_account(tmp_path_factory.mktemp("snowflake")) as running:
        yield running


@pytest.mark.cloud
class TestSnowflake(WarehouseContract):
    @pytest.fixture(params=["streamed", "unloaded"])
    def warehouse(self, account: "Account", request: pytest.FixtureRequest) -> Warehouse:
        return account.database(unload=request.param == "unloaded")
