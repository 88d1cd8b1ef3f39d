"""A load adds every row once, with types. An error names file, line, field and value, and nothing is loaded."""

import gzip
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boat import events
from boat.__main__ import main
from boat.errors import DataError
from boat.events import COLUMNS, EVENT_TYPES, PRODUCT_EVENT_TYPES
from boat.landing import discover
from boat.raw_log import FileLoad, LoadReport, load
from boat.warehouse import connect
from boat.warehouse.duckdb import DuckDBWarehouse

HEADER = "event_id,session_id,event_time,event_type,product_id\n"
GOOD = "e1,s1,2024-01-01T10:00:00Z,view,p1\n"
BROWSING = "session_id_hash,event_type,product_action,product_sku_hash,server_timestamp_epoch_ms,hashed_url\n"
SEARCH = "session_id_hash,query_vector,clicked_skus_hash,product_skus_hash,server_timestamp_epoch_ms\n"


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    warehouse = connect(f"duckdb:///{tmp_path / 'warehouse.duckdb'}")
    assert isinstance(warehouse, DuckDBWarehouse)
    return warehouse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    folder.mkdir()
    return folder


@pytest.fixture
def file(folder: Path) -> Callable[[str, str | bytes], Path]:
    """Return a function that writes a landing file from a name and content."""

    def write(name: str, content: str | bytes) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


Write = Callable[[str, str | bytes], Path]


def rows(warehouse: DuckDBWarehouse, sql: str) -> list[dict[str, Any]]:
    with warehouse.transaction() as transaction:
        return transaction.query(sql).to_pylist()


def event(warehouse: DuckDBWarehouse) -> dict[str, Any]:
    (row,) = rows(warehouse, "from raw.events")
    return row


def is_empty(warehouse: DuckDBWarehouse) -> bool:
    """Return whether no table of the raw log has a row."""
    with warehouse.transaction() as transaction:
        tables = transaction.query("select table_name as t from duckdb_tables() where schema_name = 'raw'").to_pylist()
        return all(transaction.query(f"from raw.{table['t']}").num_rows == 0 for table in tables)


BAD_ROWS = {
    "not a time": ("e2,s1,yesterday,view,p1", r"bad\.csv:3: event_time 'yesterday' is not a time"),
    "a day as a number": ("e2,s1,20240101,view,p1", r"bad\.csv:3: event_time '20240101' is not a time"),
    "a time without end": ("e2,s1,infinity,view,p1", r"bad\.csv:3: event_time 'infinity' is not a time"),
    "no time": ("e2,s1,,view,p1", r"bad\.csv:3: event_time is missing"),
    "an unknown type": ("e2,s1,2024-01-01,wish,p1", r"bad\.csv:3: event_type 'wish' is not one of pageview, detail"),
    "no type": ("e2,s1,2024-01-01,,p1", r"bad\.csv:3: event_type is missing"),
    "no product": ("e2,s1,2024-01-01,add,", r"bad\.csv:3: product_id is missing"),
    "neither session nor client": ("e2,,2024-01-01,view,p1", r"bad\.csv:3: session_id and client_id are both missing"),
    "too few fields": ("e2,s1,2024-01-01", r"bad\.csv:3: 3 fields, but the header names 5"),
    "too many fields": ("e2,s1,2024-01-01,view,p1,x", r"bad\.csv:3: 6 fields, but the header names 5"),
    "an open quote": ('e2,s1,2024-01-01,view,"p1', r"bad\.csv:3: a quote is not closed"),
}


@pytest.mark.parametrize(("row", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_loaded(
    warehouse: DuckDBWarehouse, file: Write, folder: Path, row: str, message: str
) -> None:
    file("a.csv", HEADER + GOOD)
    file("bad.csv", f"{HEADER}{GOOD}{row}\n{GOOD}")
    with pytest.raises(DataError, match=message):
        load(warehouse, folder)
    assert is_empty(warehouse)


@pytest.mark.parametrize("column", ["price", "quantity", "received_at", "schema_version", "extra"])
@pytest.mark.parametrize("name", ["bad.ndjson", "bad.parquet"])
def test_a_value_of_the_wrong_type_is_named_in_any_format(
    warehouse: DuckDBWarehouse, folder: Path, column: str, name: str
) -> None:
    good = {"session_id": "s", "event_time": "2024-01-01", "event_type": "search", column: None}
    write_rows(folder / name, [good, good | {column: "rather a lot"}])
    location = r"bad\.parquet: row 2" if name.endswith("parquet") else r"bad\.ndjson:2"
    with pytest.raises(DataError, match=f"{location}: {column} 'rather a lot' is not"):
        load(warehouse, folder)
    assert is_empty(warehouse)


BAD_FILES = {
    "no time column": (
        "a.csv",
        "session_id,event_type\ns,view\n",
        r"a\.csv:1: the column event_time is missing.*session_id",
    ),
    "no session or client": (
        "a.csv",
        "event_time,event_type\n",
        "session_id or client_id is missing.*event_time, event_type",
    ),
    "a column twice": ("a.csv", "event_time,event_type,event_time\n", "'event_time' appears twice"),
    "no header": ("a.csv", "\n1,2\n", r"a\.csv:1: the header line is missing"),
    "an open quote in the header": ("a.csv", 'event_time,"event_type\n', r"a\.csv:1: the header cannot be read"),
    "not UTF-8": (
        "a.csv",
        HEADER.encode() + GOOD.encode() + b"e,s,2024-01-01,view,caf\xe9\n",
        r"a\.csv:3: the text is not UTF-8",
    ),
    "not UTF-8 lines": ("a.ndjson", b'{"session_id": "caf\xe9"}\n', r"a\.ndjson:1: the text is not UTF-8"),
    "not Parquet": ("a.parquet", "PAR1 not really", r"a\.parquet: this is not a Parquet file"),
    "half a gzip": (
        "a.csv.gz",
        gzip.compress((HEADER + GOOD * 9000).encode())[:-20],
        r"a\.csv\.gz: the file cannot be decompressed",
    ),
    "not gzip": ("a.csv.gz", "no gzip", r"a\.csv\.gz: the file cannot be decompressed"),
    "no JSON": ("a.ndjson", '{"session_id": "s"\n', r"a\.ndjson:1: '\{\"session_id\": \"s\"' is not a JSON object"),
    "no JSON object": ("a.jsonl", "\n[1]\n", r"a\.jsonl:2: '\[1\]' is not a JSON object"),
    "a product without id": ("products.csv", "product_id,price\np,1\n,2\n", r"products\.csv:3: product_id is missing"),
    "a product of no price": (
        "products.csv",
        "product_id,price\np,cheap\n",
        r"products\.csv:2: price 'cheap' is not a num",
    ),
    "an unknown Coveo type": (
        "browsing_train.csv",
        BROWSING + "s,buy,,,1547528580000,u\n",
        r":2: event_type 'buy' is nei",
    ),
    "an unknown Coveo action": (
        "browsing_train.csv",
        BROWSING + "s,event_product,wish,p,1547528580000,u\n",
        r"browsing_train\.csv:2: product_action 'wish' is not one of detail",
    ),
    "a Coveo time": (
        "browsing_train.csv",
        BROWSING + "s,pageview,,,soon,u\n",
        r"browsing_train\.csv:2: server_timestamp_epoch_ms 'soon' is not a time",
    ),
    "a Coveo action without product": (
        "browsing_train.csv",
        BROWSING + "s,event_product,add,,1547528580000,u\n",
        r"browsing_train\.csv:2: product_sku_hash is missing",
    ),
    "no Coveo column": (
        "browsing_train.csv",
        "session_id_hash\n",
        r"browsing_train\.csv:1: the column event_type is missing",
    ),
    "no list of clicks": (
        "search_train.csv",
        SEARCH + "s,,abc,,1547528580000\n",
        r"search_train\.csv:2: clicked_skus_hash 'abc' is not a list",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named_and_nothing_is_loaded(
    warehouse: DuckDBWarehouse, file: Write, folder: Path, name: str, content: str | bytes, message: str
) -> None:
    file("0.csv", HEADER + GOOD)
    file(name, content)
    with pytest.raises(DataError, match=message):
        load(warehouse, folder)
    assert is_empty(warehouse)


def test_a_damaged_parquet_file_is_named(warehouse: DuckDBWarehouse, folder: Path) -> None:
    good = {"session_id": "s", "event_time": "2024-01-01", "event_type": "search", "query": "q" * 3000}
    write_rows(folder / "a.parquet", [good | {"query": f"{n} {hash(str(n))}" * 50} for n in range(500)])
    content = bytearray((folder / "a.parquet").read_bytes())
    content[200:600] = b"\x00" * 400
    (folder / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: "):
        load(warehouse, folder)
    assert is_empty(warehouse)


def test_lines_are_counted_as_an_editor_does(warehouse: DuckDBWarehouse, file: Write) -> None:
    rows_before = 'e0,s1,2024-01-01,view,"two\nlines"\n\ne1,s1,2024-01-01,view,p\n'
    with pytest.raises(DataError, match=r"a\.csv:6: event_time 'never'"):
        load(warehouse, file("a.csv", f"{HEADER}{rows_before}e2,s1,never,view,p\n"))
    load(warehouse, file("b.csv", f"{HEADER}{rows_before}"))
    lines = rows(warehouse, "select event_id, source_line from raw.events order by 1")
    assert [row["source_line"] for row in lines] == [2, 5]


def test_the_message_counts_bad_rows_by_problem(warehouse: DuckDBWarehouse, file: Write) -> None:
    bad = "e,s,never,view,p\ne,s,soon,view,p\n" + "e,s,2024-01-01,wish,p\n" * 3 + "e,s,2024-01-01,gift,p\n"
    with pytest.raises(DataError) as raised:
        load(warehouse, file("a.csv", HEADER + bad + GOOD))
    assert raised.value.message.startswith("a.csv:2: event_time 'never' is not a time")
    assert raised.value.message.endswith(
        " 6 of 7 rows are bad: event_type 'wish' in 3, event_time in 2, event_type 'gift' in 1."
    )
    assert "--on-bad-rows quarantine" in raised.value.hint


def test_the_same_file_again_changes_nothing_under_any_name(warehouse: DuckDBWarehouse, file: Write) -> None:
    load(warehouse, file("a.csv", HEADER + GOOD))
    before = rows(warehouse, "from raw.events, raw.loads")
    again = load(warehouse, file("copy of a.csv", HEADER + GOOD))
    assert again.files == (FileLoad("copy of a.csv", "events", already_loaded=True),)
    assert rows(warehouse, "from raw.events, raw.loads") == before


def test_overlapping_exports_do_not_double_events(warehouse: DuckDBWarehouse, file: Write) -> None:
    header = "session_id,event_time,event_type,product_id,price\n"
    monday, tuesday, wednesday = (f"s,2024-01-0{day},view,p,9.5\n" for day in (1, 2, 3))
    load(warehouse, file("a.csv", header + monday + tuesday))
    # The same content in another notation, precision and order of columns is the same event.
    again = header.replace("session_id,event_time", "event_time,session_id")
    content = again + "2024-01-02T00:00:00.000Z,s,detail,p,9.50\n1704240000,s,VIEW ,p,9.5\n2024-01-03,s,view,p,9.5\n"
    report = load(warehouse, file("b.csv", content))
    assert (report.received, report.accepted, report.duplicate, report.failed) == (3, 1, 2, 0)
    assert rows(warehouse, "select count(*) as n, max(event_time) as last from raw.events") == [
        {"n": 3, "last": datetime(2024, 1, 3)}
    ]
    assert wednesday not in tuesday


def test_the_first_of_events_with_one_id_wins(warehouse: DuckDBWarehouse, file: Write) -> None:
    report = load(warehouse, file("a.csv", HEADER + GOOD + GOOD.replace("p1", "p2")))
    assert (report.accepted, report.duplicate, report.failed) == (1, 0, 1)
    assert event(warehouse)["product_id"] == "p1"
    load(warehouse, file("b.csv", HEADER + GOOD.replace("p1", "p3")))
    assert event(warehouse)["product_id"] == "p1"


def test_the_same_id_in_two_shops_is_two_events(warehouse: DuckDBWarehouse, file: Write) -> None:
    content = "shop,event_id,session_id,event_time,event_type\none,1,s,2024-01-01,search\ntwo,1,s,2024-01-01,search\n"
    assert load(warehouse, file("a.csv", content)).accepted == 2


def test_the_ledger_adds_up(warehouse: DuckDBWarehouse, file: Write, folder: Path) -> None:
    file("a.csv", HEADER + GOOD * 3)
    file("b/c.csv", HEADER + GOOD + GOOD.replace("e1", "e2"))
    report = load(warehouse, folder)
    ledger = rows(warehouse, "select source_file, received, accepted, duplicate, failed from raw.loads order by 1")
    assert ledger == [
        {"source_file": "a.csv", "received": 3, "accepted": 1, "duplicate": 2, "failed": 0},
        {"source_file": "b/c.csv", "received": 2, "accepted": 1, "duplicate": 1, "failed": 0},
    ]
    assert (report.received, report.accepted, report.duplicate) == (5, 2, 3)
    joined = rows(warehouse, "select count(*) as n from raw.events join raw.loads using (load_id, source_file)")
    assert joined == [{"n": 2}]


TIMES = {
    "2024-02-29T12:00:00Z": datetime(2024, 2, 29, 12),
    "2024-02-29 12:00:00": datetime(2024, 2, 29, 12),
    "2024-02-29T12:00:00.123456+02:00": datetime(2024, 2, 29, 10, 0, 0, 123456),
    "2024-02-29 12:00:00-0530": datetime(2024, 2, 29, 17, 30),
    "2024-02-29": datetime(2024, 2, 29),
    "1709208000": datetime(2024, 2, 29, 12),
    "1709208000.25": datetime(2024, 2, 29, 12, 0, 0, 250000),
    "1709208000123": datetime(2024, 2, 29, 12, 0, 0, 123000),
    "1.709208e9": datetime(2024, 2, 29, 12),
}


@pytest.mark.parametrize(("text", "time"), TIMES.items())
def test_times_are_read_as_utc(warehouse: DuckDBWarehouse, file: Write, text: str, time: datetime) -> None:
    load(warehouse, file("a.csv", HEADER + f"e,s,{text},view,p\n"))
    assert event(warehouse)["event_time"] == time


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1709208000000], pa.timestamp("ms")),
        pa.array([1709208000000000000], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([1709208000000], pa.int64()),
        pa.array([1709208000.0], pa.float64()),
        pa.array(["2024-02-29T13:00:00+01:00"]),
    ],
    ids=str,
)
def test_times_in_parquet_may_have_any_type(warehouse: DuckDBWarehouse, folder: Path, values: pa.Array) -> None:
    table = pa.table({"event_time": values, "session_id": [12], "event_type": ["view"], "product_id": [b"p"]})
    pq.write_table(table, folder / "a.parquet")
    load(warehouse, folder)
    row = event(warehouse)
    assert (row["event_time"], row["session_id"], row["product_id"]) == (datetime(2024, 2, 29, 12), "12", "p")


@pytest.mark.parametrize(
    ("file_type", "loaded_type"),
    [("view", "detail"), (" View", "detail"), ("DETAIL", "detail"), ("Add ", "add"), ("Remove_From_Cart", "remove")],
)
def test_synonyms_and_spellings_of_event_types_are_understood(
    warehouse: DuckDBWarehouse, file: Write, file_type: str, loaded_type: str
) -> None:
    load(warehouse, file("a.csv", HEADER + f"e,s,2024-01-01,{file_type},p\n"))
    assert event(warehouse)["event_type"] == loaded_type


def test_other_columns_are_stored_as_json(warehouse: DuckDBWarehouse, folder: Path) -> None:
    shopper = {"event_time": "2024-01-01", "event_type": "search", "session_id": "s"}
    extra = {"colour": 'deep "blue"', "page/no": 3, "tags": ["a", "b"], "ratio": 0.5}
    write_rows(folder / "a.ndjson", [shopper | extra | {"query": "json"}])
    write_rows(folder / "a.parquet", [shopper | extra | {"query": "parquet", "nothing": None, "odd": math.nan}])
    write_rows(folder / "b.ndjson", [shopper | {"query": "both", "extra": {"a": 1}, "b": 2}])
    load(warehouse, folder)
    extras = {row["query"]: json.loads(row["extra"]) for row in rows(warehouse, "select query, extra from raw.events")}
    assert extras == {"json": extra, "parquet": extra, "both": {"a": 1, "b": 2}}


def test_extra_in_a_csv_is_json_and_other_columns_join_it(warehouse: DuckDBWarehouse, file: Write) -> None:
    content = 'event_time,event_type,session_id,extra,colour\n2024-01-01,search,s,"{""a"": [1]}",red\n'
    load(warehouse, file("a.csv", content))
    assert json.loads(event(warehouse)["extra"]) == {"a": [1], "colour": "red"}


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_column_names_of_other_systems_are_understood(warehouse: DuckDBWarehouse, folder: Path, name: str) -> None:
    row_of_file = {
        "timestamp": "2024-01-01",
        "event": "addtocart",
        "itemid": "p",
        "visitorid": "v",
        "transactionid": "t",
    }
    write_rows(folder / name, [row_of_file])
    load(warehouse, folder)
    row = event(warehouse)
    assert (row["event_time"], row["event_type"]) == (datetime(2024, 1, 1), "add")
    assert (row["product_id"], row["client_id"]) == ("p", "v")
    assert json.loads(row["extra"]) == {"transaction_id": "t"}


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_a_column_name_of_the_contract_comes_before_its_synonyms(
    warehouse: DuckDBWarehouse, folder: Path, name: str
) -> None:
    row_of_file = {
        "event_time": "2024-01-01",
        "timestamp": "x",
        "event_type": "view",
        "session_id": "s",
        "product_id": "p",
        "sku": "q",
    }
    write_rows(folder / name, [row_of_file])
    load(warehouse, folder)
    row = event(warehouse)
    assert (row["product_id"], json.loads(row["extra"])) == ("p", {"timestamp": "x", "sku": "q"})


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_the_user_id_is_the_client_id_if_a_row_has_none(warehouse: DuckDBWarehouse, folder: Path, name: str) -> None:
    shopper = {"event_time": "2024-01-01", "event_type": "search", "user_id": "u"}
    write_rows(folder / name, [shopper])
    load(warehouse, folder)
    row = event(warehouse)
    assert (row["client_id"], row["session_id"], row["extra"]) == ("u", None, None)
    write_rows(folder / name, [shopper | {"client_id": "c", "query": "2"}])
    load(warehouse, folder)
    (row,) = rows(warehouse, "select client_id, extra from raw.events where query = '2'")
    assert (row["client_id"], json.loads(row["extra"])) == ("c", {"user_id": "u"})


def test_text_that_looks_like_sql_is_text(warehouse: DuckDBWarehouse, folder: Path) -> None:
    hostile = "'); drop table raw.events; --"
    names = {"event_time": "2024-01-01", "event_type": "view", "session_id": hostile, "product_id": hostile}
    for name in ("it's a.csv", "b.ndjson", "c.parquet"):
        write_rows(folder / name, [names | {hostile: hostile, "event_id": name}])
    load(warehouse, folder)
    stored = rows(warehouse, "select session_id, product_id, extra from raw.events")
    assert [(row["session_id"], row["product_id"], json.loads(row["extra"])) for row in stored] == [
        (hostile, hostile, {hostile: hostile})
    ] * 3


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", HEADER), ("a.ndjson", ""), ("a.ndjson", "\n \t\r\n"), ("a.csv.gz", gzip.compress(HEADER.encode()))],
)
def test_a_file_without_rows_is_loaded(
    warehouse: DuckDBWarehouse, file: Write, name: str, content: str | bytes
) -> None:
    report = load(warehouse, file(name, content))
    assert (report.received, report.accepted, len(report.files)) == (0, 0, 1)


def test_a_compressed_csv_with_windows_line_ends_and_a_byte_order_mark(warehouse: DuckDBWarehouse, file: Write) -> None:
    content = "\ufeff" + (HEADER + GOOD + GOOD.replace("e1", "e2")).replace("\n", "\r\n")
    assert load(warehouse, file("a.csv.gz", gzip.compress(content.encode()))).accepted == 2
    assert [row["source_line"] for row in rows(warehouse, "from raw.events order by source_line")] == [2, 3]


def test_a_folder_is_searched_and_unknown_files_are_reported(
    warehouse: DuckDBWarehouse, file: Write, folder: Path
) -> None:
    for name in ("2024/01/a.csv", ".hidden.csv", ".git/b.csv", "c.csv.tmp", "notes.txt"):
        file(name, HEADER + GOOD)
    report = load(warehouse, folder)
    assert [done.source_file for done in report.files] == ["2024/01/a.csv"]
    assert [(ignored.name, ignored.reason) for ignored in report.ignored] == [("notes.txt", "has an unknown file type")]


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize("name", ["a[1]", "all *", "what?", "event_type=add/a"])
def test_wildcards_in_names_of_files_and_folders_are_plain_text(
    warehouse: DuckDBWarehouse, folder: Path, name: str, ending: str
) -> None:
    shopper = {"event_time": "2024-01-01", "event_type": "view", "session_id": "s", "product_id": "p"}
    write_rows(folder / f"{name}.{ending}", [shopper])
    for other_name in ("a1", "all others", "whatx"):
        write_rows(folder / f"{other_name}.{ending}", [shopper | {"session_id": "other"}])
    report = load(warehouse, folder / f"{name}.{ending}")
    assert (report.received, report.accepted) == (1, 1)
    assert event(warehouse)["event_type"] == "detail"


def test_an_empty_folder_has_nothing_to_load(warehouse: DuckDBWarehouse, folder: Path) -> None:
    assert load(warehouse, folder) == LoadReport((), ())


def test_a_single_file_must_exist_and_have_a_known_type(file: Write, folder: Path) -> None:
    with pytest.raises(DataError, match=r"notes\.txt: the file has an unknown file type.*\.parquet"):
        discover(file("notes.txt", "hello"))
    with pytest.raises(DataError, match="no such file"):
        discover(folder / "nowhere.csv")


def test_a_catalogue_is_loaded_with_the_events(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("products.csv", 'product_id,product_name,price,colour\np1,"Dress, blue",9.5,blue\np2,,,\n')
    write_rows(folder / "more" / "products.ndjson", [{"product_id": 3, "category": "a/b", "shop": "two"}])
    report = load(warehouse, folder)
    assert [(done.kind, done.accepted) for done in report.files] == [("catalogue", 1), ("catalogue", 2)]
    products = rows(warehouse, "select * exclude (load_id) from raw.products order by product_id")
    names = ("shop", "product_id", "product_name", "category", "price", "extra", "source_file", "source_line")
    assert [tuple(product[name] for name in names) for product in products] == [
        ("two", "3", None, "a/b", None, None, "more/products.ndjson", 1),
        ("shop", "p1", "Dress, blue", None, 9.5, '{"colour":"blue"}', "products.csv", 2),
        ("shop", "p2", None, None, None, None, "products.csv", 3),
    ]


@pytest.fixture
def coveo(file: Write, folder: Path) -> Path:
    file(
        "browsing_train.csv",
        BROWSING + "s1,event_product,detail,p1,1547528580123,u1\ns1,pageview,,,1547528580123,u1\n"
        "s1,event_product,,,1547528590000,u2\ns2,event_product,purchase,p2,1547528600000,u3\n"
        "s1,pageview,,,1547528580123,u1\n",
    )
    file(
        "search_train.csv",
        SEARCH + "s1,\"[0.5, -1.0]\",\"['p1', 'p2', 'p1']\",\"['p1', 'p3']\",1547528570000\ns2,,,,1547528570000\n",
    )
    file(
        "sku_to_content.csv",
        "product_sku_hash,description_vector,category_hash,image_vector,price_bucket\n"
        'p1,"[0.5, 0.25]",c1/c2,,3.0\np2,,,,\n',
    )
    return folder


def test_the_coveo_layout_is_recognised_by_its_file_names(warehouse: DuckDBWarehouse, coveo: Path) -> None:
    report = load(warehouse, coveo)
    counts = {done.source_file: (done.kind, done.received, done.accepted, done.duplicate) for done in report.files}
    assert counts == {
        "browsing_train.csv": ("coveo_browsing", 5, 4, 1),
        "search_train.csv": ("coveo_search", 5, 4, 1),
        "sku_to_content.csv": ("coveo_catalogue", 2, 2, 0),
    }
    names = "session_id, event_type, product_id, url, source_line"
    browsing = rows(
        warehouse, f"select {names} from raw.events where source_file like 'browsing%' order by source_line"
    )
    assert [tuple(row.values()) for row in browsing] == [
        ("s1", "detail", "p1", "u1", 2),
        ("s1", "pageview", None, "u1", 3),
        ("s1", "pageview", None, "u2", 4),
        ("s2", "purchase", "p2", "u3", 5),
    ]
    first = rows(warehouse, "select event_time from raw.events where event_type = 'detail'")
    assert first == [{"event_time": datetime(2019, 1, 15, 5, 3, 0, 123000)}]
    searches = rows(
        warehouse,
        "select session_id, event_type, product_id, extra from raw.events where source_file like 's%' order by all",
    )
    assert [tuple(row.values())[:3] for row in searches] == [
        ("s1", "click", "p1"),
        ("s1", "click", "p2"),
        ("s1", "search", None),
        ("s2", "search", None),
    ]
    assert json.loads(searches[2]["extra"]) == {"query_vector": [0.5, -1.0], "product_skus_hash": ["p1", "p3"]}


def test_product_names_are_joined_to_the_coveo_catalogue(warehouse: DuckDBWarehouse, coveo: Path, file: Write) -> None:
    file("product_names.csv", 'product_sku_hash,product_name\np1,"Linen dress, blue"\np9,Hat\n')
    load(warehouse, coveo)
    products = rows(warehouse, "select * from raw.products order by product_id")
    names = ("product_id", "product_name", "category", "price", "source_file", "source_line")
    assert [tuple(product[name] for name in names) for product in products] == [
        ("p1", "Linen dress, blue", "c1/c2", 3.0, "sku_to_content.csv", 2),
        ("p2", None, None, None, "sku_to_content.csv", 3),
        ("p9", "Hat", None, None, "product_names.csv", 3),
    ]
    assert json.loads(products[0]["extra"]) == {"description_vector": [0.5, 0.25]}


def test_new_names_for_an_old_catalogue_are_loaded(warehouse: DuckDBWarehouse, coveo: Path, file: Write) -> None:
    for name in ("Dress", "Frock"):
        file("product_names.csv", f"product_sku_hash,product_name\np1,{name}\n")
        load(warehouse, coveo)
    assert rows(warehouse, "select product_name from raw.products where product_id = 'p1' order by 1") == [
        {"product_name": "Dress"},
        {"product_name": "Frock"},
    ]


def test_product_names_alone_are_a_catalogue(warehouse: DuckDBWarehouse, file: Write) -> None:
    load(warehouse, file("product_names.csv", "product_sku_hash,product_name\np1,Hat\n"))
    assert rows(warehouse, "select product_id, product_name from raw.products") == [
        {"product_id": "p1", "product_name": "Hat"}
    ]


def test_the_command_loads_and_reports_an_error_in_one_line(
    tmp_path: Path, file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"duckdb:///{tmp_path / 'w.duckdb'}"
    assert main(["load", str(file("a.csv", HEADER + GOOD)), "--warehouse", url]) == 0
    assert "a.csv (events): 1 new of 1" in capsys.readouterr().out
    assert main(["load", str(file("b.csv", HEADER + "e,s,never,view,p\n")), "--warehouse", url]) == 1
    assert capsys.readouterr().err.startswith("boat: b.csv:2: event_time 'never' is not a time")


def test_real_views_are_all_loaded(warehouse: DuckDBWarehouse, public_data: Callable[[str], Path]) -> None:
    report = load(warehouse, public_data("serenade_bol"))
    assert (report.received, report.failed) == (116_285, 0)
    assert report.accepted + report.duplicate == 116_285
    assert [ignored.name for ignored in report.ignored] == ["test.txt", "train.txt", "valid.txt"]
    counts = "count(*) as rows, count(distinct session_id) as sessions, count(distinct product_id) as products"
    assert rows(warehouse, f"select {counts} from raw.events where event_type = 'detail'") == [
        {"rows": 116_285, "sessions": 24_385, "products": 18_009}
    ]


def test_real_clicks_keep_columns_outside_the_schema(
    warehouse: DuckDBWarehouse, public_data: Callable[[str], Path]
) -> None:
    report = load(warehouse, public_data("eshop2008") / "events.parquet")
    assert report.accepted + report.duplicate == 165_474
    (row,) = rows(warehouse, "select extra, price from raw.events order by source_line limit 1")
    assert row["price"] == 28.0
    assert set(json.loads(row["extra"])) == {"category", "colour", "location", "country", "page", "click_order"}


def test_real_rows_of_an_unknown_type_are_refused_by_name(
    warehouse: DuckDBWarehouse, public_data: Callable[[str], Path]
) -> None:
    with pytest.raises(DataError, match=r"events\.parquet: row 2407: event_type 'adjustment' is not one ") as raised:
        load(warehouse, public_data("online_retail"))
    counts = "1,336 of 541,909 rows are bad: event_type 'adjustment' in 1,336."
    assert raised.value.message.endswith(counts)
    assert is_empty(warehouse)


def test_real_views_and_purchases_with_other_column_names_are_loaded(
    warehouse: DuckDBWarehouse, public_data: Callable[[str], Path]
) -> None:
    report = load(warehouse, public_data("diginetica_10k"))
    assert (report.received, report.failed) == (12_647, 0)
    (row,) = rows(warehouse, "select count(distinct session_id) as n, count(product_id) as products from raw.events")
    assert row == {"n": 2_986, "products": report.accepted}


def test_the_command_reports_quarantined_rows(tmp_path: Path, file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    events = file("a.csv", HEADER + GOOD + "e2,s,2024-01-01,wish,p\n")
    url = f"duckdb:///{tmp_path / 'w.duckdb'}"
    assert main(["load", str(events), "--warehouse", url, "--on-bad-rows", "quarantine"]) == 0
    assert "in raw.dead_letters: 1 with unknown_event_type" in capsys.readouterr().out


def write_rows(path: Path, events: list[dict[str, Any]]) -> None:
    """Write events in the format that the file's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".ndjson":
        path.write_text("".join(json.dumps(event, default=str) + "\n" for event in events))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(events), path)
    else:
        pacsv.write_csv(pa.Table.from_pylist(events), path)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=12)
ID = TEXT.filter(lambda text: events.identifier(text) == text)
TIME = st.datetimes(events.EARLIEST, datetime(2026, 1, 1))


def amounts(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest)


@st.composite
def shopper_events(draw: st.DrawFn) -> dict[str, Any]:
    event_type = draw(st.sampled_from(EVENT_TYPES))
    needs_product = event_type in PRODUCT_EVENT_TYPES
    session = draw(st.none() | ID)
    time = draw(TIME)
    off_by = st.timedeltas(-events.CLOCK_AHEAD, events.CLOCK_LATE)
    return {
        "shop": draw(ID),
        "session_id": session,
        "client_id": draw(ID if session is None else st.none() | ID),
        "event_time": time,
        "received_at": draw(st.none() | off_by.map(lambda delta: max(events.EARLIEST, time + delta))),
        "event_type": event_type,
        "product_id": draw(ID if needs_product else st.none() | ID),
        "url": draw(st.none() | TEXT),
        "query": draw(st.none() | TEXT),
        "price": draw(st.none() | amounts(events.MAX_PRICE)),
        "quantity": draw(st.none() | amounts(events.MAX_QUANTITY)),
    }


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(shopper_events(), min_size=1, max_size=8))
@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_loaded_rows_equal_written_rows(
    tmp_path_factory: pytest.TempPathFactory, ending: str, written: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    numbered = [{"event_id": str(number), **event} for number, event in enumerate(written)]
    write_rows(folder / f"a.{ending}", numbered)
    warehouse = connect(f"duckdb:///{folder / 'w.duckdb'}")
    assert load(warehouse, folder / f"a.{ending}").accepted == len(numbered)
    names = ", ".join(column.name for column in COLUMNS)
    with warehouse.transaction() as transaction:
        loaded = transaction.query(f"select {names} from raw.events order by cast(event_id as integer)").to_pylist()
        assert transaction.query("select distinct extra from raw.events").to_pylist() == [{"extra": None}]
    assert loaded == numbered


def test_the_same_events_have_the_same_ids_in_every_format(warehouse: DuckDBWarehouse, folder: Path) -> None:
    searches = [
        {
            "session_id": "s",
            "event_time": datetime(2024, 1, day, tzinfo=UTC),
            "event_type": "search",
            "query": f"q{day}",
        }
        for day in range(1, 5)
    ]
    for ending in ("csv", "ndjson", "parquet"):
        write_rows(folder / f"a.{ending}", searches)
    report = load(warehouse, folder)
    assert [(done.accepted, done.duplicate) for done in report.files] == [(4, 0), (0, 4), (0, 4)]


def test_a_file_larger_than_the_memory_limit_is_loaded(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"""copy (select sha256(cast(i // 7 as varchar)) as session_id_hash, 'pageview' as event_type,
            null as product_action, null as product_sku_hash, 1547528580000 + i as server_timestamp_epoch_ms,
            sha256(cast(i as varchar)) as hashed_url from range(600_000) t(i))
            to '{tmp_path}/browsing_train.csv' (header)"""
        )
    warehouse = connect(f"duckdb:///{tmp_path / 'w.duckdb'}?memory_limit=200MB&threads=2")
    assert load(warehouse, tmp_path / "browsing_train.csv").accepted == 600_000
    with warehouse.transaction() as transaction:
        (ends,) = transaction.query(
            """select min(source_line) as first, max(source_line) as last,
                count(*) filter (source_line <> epoch_ms(event_time) - 1547528580000 + 2) as misplaced
            from raw.events"""
        ).to_pylist()
    assert ends == {"first": 2, "last": 600_001, "misplaced": 0}
