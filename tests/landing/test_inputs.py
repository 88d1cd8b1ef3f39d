"""Values of landing files are read correctly or refused, independently of the other rows."""

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boat import events
from boat.errors import DataError
from boat.landing import BadRows
from boat.raw_log import LoadReport, load
from boat.warehouse import connect

QUARANTINE = BadRows("quarantine", max_share=1)
NOON = datetime(2019, 10, 1, 12)
TWO_TIMES = ["2024-05-01T10:00:00Z", "2024-05-01T10:01:00Z"]


class LandingShop:
    """A landing folder and its raw log."""

    def __init__(self, folder: Path) -> None:
        self.landing = folder / "landing"
        self.landing.mkdir()
        self.warehouse = connect(f"duckdb:///{folder / 'warehouse.duckdb'}")

    def write(self, name: str, content: str | bytes) -> None:
        path = self.landing / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def csv(self, header: str, *rows: str, name: str = "events.csv") -> None:
        self.write(name, "\n".join([header, *rows, ""]))

    def ndjson(self, *objects: dict[str, Any], name: str = "events.ndjson") -> None:
        self.write(name, "".join(json.dumps(event) + "\n" for event in objects))

    def parquet(self, columns: dict[str, Any], name: str = "events.parquet") -> None:
        pq.write_table(pa.table(columns), self.landing / name)

    def load(self) -> LoadReport:
        return load(self.warehouse, self.landing, QUARANTINE)

    def rows(self, columns: str, table: str = "raw.events") -> list[tuple[Any, ...]]:
        """Load new files, and return columns of a table in the order of files and lines."""
        self.load()
        with self.warehouse.transaction() as transaction:
            rows = transaction.query(f"select {columns} from {table} order by source_file, source_line, 1").to_pylist()
        return [tuple(row.values()) for row in rows]

    def refused(self) -> list[tuple[int, str, str]]:
        """Return line, reason and column of the dead letters."""
        return self.rows("source_line, reason, field", "raw.dead_letters")


@pytest.fixture
def shop(tmp_path: Path) -> LandingShop:
    return LandingShop(tmp_path)


READ_AS_NOON = [
    "2019-10-01 12:00:00",
    "2019-10-01T12:00:00Z",
    "2019-10-01 12:00:00 UTC",
    "2019-10-01 12:00:00GMT",
    "2019-10-01 12:00",
    "2019/10/01 12:00:00",
    "2019-10-01T14:00:00+02:00",
    "2019-10-01T07:00:00.000-0500",
    "2019-10-01 12:00:00+00",
    " 2019-10-01 12:00:00 ",
    "1569931200",
    "1569931200.0",
    "1569931200000",
    "1569931200000000",
    "1569931200000000000",
]
OTHER_NOTATIONS = [
    "20191001120000",
    "20191001",
    "201910011200",
    "2019100112",
    "191001120000",
    "2019100112000000",
    "12/03/14 10:00",
    "01.10.2019 12:00",
    "1/10/2019",
    "2019-10-01 12:00:00 PST",
    "2019-10-01 12:00:00 Europe/Berlin",
    "2019-10-01 12:00:00 CEST",
    "0001-01-01 00:00:00",
    "1999-12-31 23:59:59",
    "9999-12-31 00:00:00",
    "2019-02-30 10:00:00",
    "2019-10-01 25:00:00",
    "2019-10-01T12:00:00+25:00",
    "Tue Oct 01 2019",
    "43739.5",
    "1.57E+09",
    "-1569931200",
    "infinity",
    "now",
    "today",
    "epoch",
]


def test_times_in_the_documented_notations_are_read_in_utc(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,session_id", *(f"{time},search,s" for time in READ_AS_NOON))
    shop.load()
    assert shop.refused() == []
    assert {time for (time,) in shop.rows("event_time")} == {NOON}


def test_other_notations_of_a_time_are_refused_and_never_read_as_another_time(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,session_id", *(f"{time},search,s" for time in OTHER_NOTATIONS))
    assert shop.rows("event_time") == []
    refused = shop.refused()
    assert [line for line, *_ in refused] == list(range(2, len(OTHER_NOTATIONS) + 2))
    assert {(reason, field) for _, reason, field in refused} == {
        ("not_a_time", "event_time"),
        ("time_out_of_range", "event_time"),
    }


@pytest.mark.parametrize("neighbour", ["2019-10-01 12:00:00 PST", "2019-10-01T12:00:00+05:30", "x", ""])
def test_a_time_does_not_depend_on_neighbouring_rows(shop: LandingShop, neighbour: str) -> None:
    noon = "2019-10-01 12:00:00,search,s"
    shop.csv("event_time,event_type,session_id", noon, f"{neighbour},search,other", noon.replace("s", "t"), f"{noon}2")
    times = shop.rows("event_time, session_id")
    assert [time for time, session in times if session != "other"] == [NOON] * (len(times) - ("+05" in neighbour))


def test_fractions_of_a_second_are_cut_to_microseconds(shop: LandingShop) -> None:
    times = ["2019-10-01T12:00:00.123456789Z", "2019-10-01T12:00:00.5", "1569931200.5", "1569931200123.9999"]
    shop.csv("event_time,event_type,session_id", *(f"{time},search,s{n}" for n, time in enumerate(times)))
    assert [time.microsecond for (time,) in shop.rows("event_time")] == [123456, 500000, 500000, 123999]


def test_a_day_without_time_is_its_midnight_and_timestamps_of_parquet_are_exact(shop: LandingShop) -> None:
    nanoseconds = pa.array([1569931200000000123], pa.timestamp("ns"))
    zoned = pa.array([1569931200000], pa.timestamp("ms", "Europe/Berlin"))
    for name, column in {"a": nanoseconds, "b": zoned, "c": pa.array(["2019-10-01"])}.items():
        shop.parquet({"event_time": column, "event_type": ["search"], "session_id": [name]}, f"{name}.parquet")
    assert [time for (time,) in shop.rows("event_time")] == [NOON, NOON, datetime(2019, 10, 1)]


def test_a_product_has_one_id_in_every_format(shop: LandingShop) -> None:
    times = pa.array([1569931200000] * 2)
    floats = {"event_time": times, "event_type": ["view", "search"], "user_id": [530496790.0, 5304967901234567.0]}
    shop.parquet(floats | {"product_id": [355908.0, None]}, "a.parquet")
    shop.csv(
        "event_time,event_type,user_id,product_id", "2019-10-01 12:00:00,view, 530496790.0 ,355908.0", name="b.csv"
    )
    shop.ndjson(
        {"event_time": 1569931200, "event_type": "view", "user_id": 530496790, "product_id": 355908.0}, name="c.ndjson"
    )
    shop.parquet({"product_id": [355908], "product_name": ["mug"]}, "products.parquet")
    assert shop.rows("client_id, product_id") == [
        ("530496790", "355908"),
        ("5304967901234567", None),
    ]  # the rows of b.csv and c.ndjson are duplicates of the first
    assert shop.rows("product_id", "raw.products") == [("355908",)]


PLAIN_TEXTS = [
    "007",
    "12e5",
    "1E3",
    "11.22",
    "1.50",
    "355908.00",
    "0x1F",
    "+5",
    "-",
    "a b",
    "true",
    "[a]",
    "1_000",
    "٣.0",
]


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet"])
def test_any_other_text_is_an_unchanged_id(shop: LandingShop, ending: str) -> None:
    columns = {"event_time": "2024-05-01", "event_type": "view", "session_id": "s"}
    if ending == "csv":
        shop.csv("event_time,event_type,session_id,product_id", *(f"2024-05-01,view,s,{id}" for id in PLAIN_TEXTS))
    elif ending == "ndjson":
        shop.ndjson(*({**columns, "product_id": id} for id in PLAIN_TEXTS))
    else:
        whole = {name: [value] * len(PLAIN_TEXTS) for name, value in columns.items()}
        shop.parquet(whole | {"product_id": PLAIN_TEXTS})
    assert [product for (product,) in shop.rows("product_id")] == PLAIN_TEXTS


def test_large_numbers_keep_their_digits(shop: LandingShop) -> None:
    large = [1.2345678901234567e19, 1e16, 9007199254740993.0]
    shop.parquet({"event_time": ["2024-05-01"] * 3, "event_type": ["search"] * 3, "user_id": large}, "a.parquet")
    shop.ndjson(
        *({"event_time": "2024-05-01", "event_type": "pageview", "user_id": number} for number in [*large, 10**25]),
        name="b.ndjson",
    )
    digits = ["12345678901234567000", "10000000000000000", "9007199254740992"]
    assert [client for (client,) in shop.rows("client_id")] == [*digits, *digits, str(10**25)]


@pytest.mark.parametrize(
    "column", [pa.array([["a", "b"], ["c"]]), pa.array([{"id": "a"}, {"id": "b"}]), pa.array([True, False])]
)
def test_a_list_an_object_or_a_boolean_is_not_an_id(shop: LandingShop, column: pa.Array) -> None:
    shop.parquet({"event_time": TWO_TIMES, "event_type": ["view"] * 2, "client_id": ["u"] * 2, "product_id": column})
    with pytest.raises(DataError, match=r"events\.parquet: the column 'product_id' has the type (list|struct|bool)"):
        shop.load()


def test_a_list_an_object_or_a_boolean_in_json_is_not_an_id(shop: LandingShop) -> None:
    event = {"event_time": "2024-05-01", "event_type": "view", "session_id": "s"}
    shop.ndjson(*({**event, "product_id": value} for value in (["a"], {"id": "a"}, True, "[a]", "true")))
    assert [product for (product,) in shop.rows("product_id")] == ["[a]", "true"]
    assert shop.refused() == [(line, "wrong_type", "product_id") for line in (1, 2, 3)]


WORDS = [*events.MISSING_WORDS, "NULL", "None", "NaN", "N/A", "(NOT SET)", "\\N", " undefined ", "  "]


def test_a_word_for_missing_is_not_an_id_a_number_or_a_time(shop: LandingShop) -> None:
    shop.csv(
        "event_time,event_type,session_id,client_id,product_id,price,quantity,order_id,shop",
        *(f"2024-05-01,pageview,s,{word},{word},{word},{word},{word},{word}" for word in WORDS),
        *(f"2024-05-01,view,{word},{word},p,,,," for word in WORDS),
        *(f"{word},pageview,s,,,,,," for word in WORDS),
    )
    missing = (None, None, None, None, None, "shop")
    # equal page views are one event
    assert shop.rows("client_id, product_id, price, quantity, extra, shop") == [missing]
    assert [(reason, field) for _, reason, field in shop.refused()] == [("missing", "session_id")] * len(WORDS) + [
        ("missing", "event_time")
    ] * len(WORDS)


def test_a_search_for_the_word_none_is_a_search(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,session_id,query,url", "2024-05-01,search,s,none,null")
    assert shop.rows("query, url") == [("none", "null")]


def test_a_placeholder_is_not_an_order_number(shop: LandingShop) -> None:
    placeholders = ["0", "000", "0.0", "-", "null", "(not set)"]
    shop.csv(
        "event_time,event_type,user_id,product_id,transactionid",
        *(f"2024-05-01,purchase,u,p,{n}" for n in placeholders),
    )
    assert shop.rows("extra") == [(None,)] * len(placeholders)


@pytest.mark.parametrize(
    "name", ["transaction_id", "transactionid", "TransactionId", "order_id", "orderId", "invoice_no"]
)
def test_all_names_of_the_order_number_become_transaction_id(shop: LandingShop, name: str) -> None:
    shop.csv(f"event_time,event_type,user_id,product_id,{name}", "2024-05-01,purchase,u,p,4000.0", name="a.csv")
    shop.ndjson(
        {"event_time": "2024-05-01", "event_type": "purchase", "user_id": "u", "product_id": "q", name: 4000},
        name="b.ndjson",
    )
    assert shop.rows("extra") == [('{"transaction_id":"4000"}',)] * 2


BAD_NUMBERS = ["inf", "-inf", "1e400", "1e11", "-1e11", "9,50", "€9", "1_000", "0x10", "true"]


def test_a_price_that_is_not_a_number_or_out_of_range_is_refused(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,user_id,product_id,price", *(f'2024-05-01,view,u,p,"{n}"' for n in BAD_NUMBERS))
    refused = shop.refused()
    assert [(line, field) for line, _, field in refused] == [(n, "price") for n in range(2, len(BAD_NUMBERS) + 2)]
    assert {reason for _, reason, _ in refused} == {"not_a_number", "out_of_range"}


def test_a_tax_out_of_range_is_refused(shop: LandingShop) -> None:
    amounts = ["inf", "nan(1)", "1e300", "abc"]
    shop.csv("event_time,event_type,user_id,product_id,tax", *(f"2024-05-01,purchase,u,p,{n}" for n in amounts))
    assert shop.refused() == [(line, "not_a_number", "tax") for line in range(2, 6)]


def test_a_negative_shipping_and_a_negative_quantity_are_loaded(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,user_id,product_id,quantity,shipping", "2024-05-01,purchase,u,p,-1,-4.99")
    assert shop.rows("quantity, extra") == [(-1.0, '{"shipping":"-4.99"}')]


def test_a_refund_is_a_purchase_with_a_negative_quantity(shop: LandingShop) -> None:
    shop.csv(
        "event_time,event_type,user_id,product_id,quantity",
        "2024-05-01,refund,u,p,2",
        "2024-05-01,Return,u,q,-3",
        "2024-05-01,refund,u,r,",
    )
    assert shop.rows("event_type, quantity") == [("purchase", -2.0), ("purchase", -3.0), ("purchase", -1.0)]


def test_an_exact_column_name_has_priority(shop: LandingShop) -> None:
    columns = {"event_time": TWO_TIMES, "event_type": ["view"] * 2, "client_id": ["u"] * 2}
    shop.parquet(columns | {"SKU": ["master"] * 2, "sku": ["variant-1", "variant-2"]})
    (file,) = shop.load().files
    assert file.notes == ("product_id is read from 'sku'; 'SKU' could be it too: kept in extra",)
    assert shop.rows("product_id, extra") == [(f"variant-{n}", '{"SKU":"master"}') for n in (1, 2)]


@pytest.mark.parametrize("name", ["Event_Time", "EVENT_TIME", "eventTime", "event time", "Event-Time", " event_time "])
def test_a_column_is_recognised_in_any_case_and_with_any_separators(shop: LandingShop, name: str) -> None:
    shop.csv(f"{name},event_type,session_id", "2019-10-01 12:00:00,search,s")
    assert shop.rows("event_time") == [(NOON,)]


def test_a_visitor_id_has_priority_over_a_user_id(shop: LandingShop) -> None:
    shop.csv("event_time,event_type,user_id,visitor_id", "2024-05-01,search,account,browser")
    assert shop.rows("client_id, extra") == [("browser", '{"user_id":"account"}')]


def test_rows_of_ndjson_may_have_different_keys(shop: LandingShop) -> None:
    shop.ndjson(
        {"timestamp": TWO_TIMES[0], "event": "page_view", "user_id": "u1", "url": "/"},
        {"timestamp": TWO_TIMES[0], "event": "view_item", "user_id": "u1", "user_session": "s1", "product_id": "p1"},
        {"ts": TWO_TIMES[1], "event": "view_item", "visitorid": "v9", "user_session": "s3", "sku": "p2"},
        {"ts": TWO_TIMES[1], "event": "search", "client_id": "null", "userId": "u7"},
    )
    assert shop.rows("session_id, client_id, product_id") == [
        (None, "u1", None),
        ("s1", "u1", "p1"),
        ("s3", "v9", "p2"),
        (None, "u7", None),
    ]


UNUSED = {
    "binary": pa.array([bytes(range(200, 216))] * 2, pa.binary(16)),
    "bytes": pa.array([b"\xff\xfe", None], pa.binary()),
    "list": pa.array([[b"\xff"], None], pa.list_(pa.binary())),
    "map": pa.array([[(1, "a")], None], pa.map_(pa.int32(), pa.string())),
    "struct": pa.array([{"a": [1.5]}, None]),
    "null": pa.array([None, None], pa.null()),
    "nan": pa.array([float("nan"), float("inf")]),
    "time": pa.array([1, 2], pa.time64("us")),
    "decimal": pa.array(["1.50", "2"]).cast(pa.decimal128(10, 2)),
    "category": pa.array(["x", "y"]).dictionary_encode(),
    "duration": pa.array([1, 2], pa.duration("us")),
    "unsigned": pa.array([2**64 - 1, 0], pa.uint64()),
}


@pytest.mark.parametrize("column", UNUSED.values(), ids=UNUSED)
def test_an_unused_column_of_any_type_refuses_no_row(shop: LandingShop, column: pa.Array) -> None:
    shop.parquet({"event_time": TWO_TIMES, "event_type": ["search"] * 2, "session_id": ["a", "b"], "other": column})
    assert shop.rows("session_id, json_valid(coalesce(extra, '{}'))") == [("a", True), ("b", True)]


def test_binary_ids_of_old_parquet_writers_are_text(shop: LandingShop) -> None:
    ids = pa.array([b"p1", "grün".encode()], pa.binary())
    shop.parquet({"event_time": TWO_TIMES, "event_type": ["view"] * 2, "client_id": ["u"] * 2, "product_id": ids})
    assert shop.rows("product_id") == [("p1",), ("grün",)]


HEADER = "event_time,event_type,user_id,product_id,price,quantity,transaction_id"
PEN, CUP = (f"2024-05-01 10:00:00,purchase,u1,{product},3,1,T-9" for product in ("pen", "cup"))


def test_equal_lines_of_an_order_are_separate_events_unless_the_exports_overlap(shop: LandingShop) -> None:
    shop.csv(HEADER, PEN, PEN, CUP, PEN, name="a.csv")
    assert [product for (product,) in shop.rows("product_id")] == ["pen", "pen", "cup", "pen"]
    shop.csv(HEADER, PEN, CUP, PEN, name="b.csv")  # an export that overlaps with a.csv
    assert [(file.accepted, file.duplicate) for file in shop.load().files if not file.already_loaded] == [(0, 3)]


def test_equal_views_are_one_event_and_equal_adds_are_two(shop: LandingShop) -> None:
    view, add = "2024-05-01 10:00:00,view,u1,pen,3,,", "2024-05-01 10:00:00,add,u1,pen,3,,"
    shop.csv(HEADER, view, view, add, add)
    assert [event_type for (event_type,) in shop.rows("event_type")] == ["detail", "add", "add"]


def test_a_repeated_event_id_counts_once(shop: LandingShop) -> None:
    shop.csv(f"event_id,{HEADER}", f"e1,{PEN}", f"e1,{PEN}", f"e2,{PEN}")
    assert [id for (id,) in shop.rows("event_id")] == ["e1", "e2"]


def test_the_first_of_equal_lines_keeps_the_id_of_its_content(shop: LandingShop) -> None:
    shop.csv(HEADER, PEN, name="a.csv")
    ((first,),) = shop.rows("event_id")
    shop.csv(HEADER, PEN, PEN, name="b.csv")
    assert (first,) in shop.rows("event_id")
    assert len(shop.rows("event_id")) == 2


def test_unused_event_types_are_counted_and_are_not_bad_rows(shop: LandingShop) -> None:
    types = ["view_item", "scroll", "session_start", "Product List Viewed", "scroll", "page_view"]
    shop.csv("event_time,event_type,user_id,product_id", *(f"2024-05-01,{name},u,p" for name in types))
    (file,) = shop.load().files
    assert (file.received, file.accepted, file.failed) == (2, 2, 0)
    assert file.unused == (("scroll", 2), ("Product List Viewed", 1), ("session_start", 1))


def test_an_event_of_a_wrong_clock_gets_the_time_of_receipt(shop: LandingShop) -> None:
    shop.csv(
        "event_time,received_at,event_type,client_id",
        "2024-05-01 10:00:00,2024-05-09 10:00:01,search,late",
        "2024-05-01 10:00:00,2024-05-08 10:00:00,search,in time",
        "2024-05-01 11:00:01,2024-05-01 10:00:00,search,ahead",
        "2024-05-01 11:00:00,2024-05-01 10:00:00,search,a little ahead",
    )
    assert shop.rows("client_id, event_time::varchar, json_extract_string(extra, '$.device_time')") == [
        ("late", "2024-05-09 10:00:01", "2024-05-01T10:00:00.000000Z"),
        ("in time", "2024-05-01 10:00:00", None),
        ("ahead", "2024-05-01 10:00:00", "2024-05-01T11:00:01.000000Z"),
        ("a little ahead", "2024-05-01 11:00:00", None),
    ]


EVENT = '{"event_time":"2024-05-01T10:00:00Z","event_type":"view","client_id":"u2","product_id":"p2"}\n'
LINE = "event_time,event_type,client_id,product_id\n2024-05-01 10:00:00,view,u1,p1\n"
LOADED: dict[str, str | bytes] = {
    "EVENTS.CSV": LINE,
    "a.json": EVENT,
    "array.json": f"[{EVENT.strip()}]",
    "pretty.json": json.dumps([json.loads(EVENT)], indent=2),
    "a.ndjson.gz": gzip.compress(EVENT.encode()),
    "a.jsonl.gz": gzip.compress(EVENT.encode()),
    "A.JSONL": EVENT,
    "a.CSV.GZ": gzip.compress(LINE.encode()),
    "a.tsv": LINE.replace(",", "\t"),
    "semicolons.csv": LINE.replace(",", ";"),
    "bom.csv": b"\xef\xbb\xbf" + LINE.encode(),
    "crlf.csv": LINE.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", LOADED)
def test_a_file_is_loaded_with_any_spelling_of_its_extension(shop: LandingShop, name: str) -> None:
    shop.write(name, LOADED[name])
    assert [(client, product) for client, product in shop.rows("client_id, product_id")] in (
        [("u1", "p1")],
        [("u2", "p2")],
    )


@pytest.mark.parametrize(
    "name", ["b.csv", "b.parquet", "b.json.gz", "events.xlsx", "readme.txt", "old.csv.bak", "b.CSV"]
)
def test_an_empty_or_unknown_file_does_not_stop_the_others_and_is_named(shop: LandingShop, name: str) -> None:
    shop.write("a.csv", LINE)
    shop.write(name, gzip.compress(b"") if name.endswith("gz") else b"" if name.startswith("b") else b"text")
    report = shop.load()
    assert report.accepted == 1
    named = [ignored.name for ignored in report.ignored] + [
        file.source_file for file in report.files if not file.received
    ]
    assert named == [name]


VALUES = st.one_of(
    st.sampled_from([*READ_AS_NOON, *OTHER_NOTATIONS, *PLAIN_TEXTS, *WORDS]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=2, max_size=30, unique=True))
def test_a_value_never_depends_on_another_row(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    # Each value is read as a time, an id and a price: once in a separate file, and once with all other values.
    shared, separate = (LandingShop(tmp_path_factory.mktemp(name)) for name in ("together", "alone"))
    rows = [
        {"event_time": "2024-05-01", "event_type": "search", "session_id": "s", "query": value, column: value}
        for value in values
        for column in ("event_time", "product_id", "price")
    ]
    shared.ndjson(*rows)
    for number, row in enumerate(rows):
        separate.ndjson(row, name=f"{number}.ndjson")
    assert _loaded_rows(shared) == _loaded_rows(separate)


def _loaded_rows(shop: LandingShop) -> list[str]:
    good = shop.rows("query, event_time, product_id, price")
    bad = shop.rows("reason, field, payload", "raw.dead_letters")
    return sorted(map(repr, good + bad))
