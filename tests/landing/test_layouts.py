"""Files of known layouts are loaded as their publishers document them. All rows are invented."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from boat.__main__ import main
from boat.errors import DataError, SettingError
from boat.landing import BadRows, discover, preview
from boat.landing.layouts import LAYOUTS
from boat.raw_log import LoadReport, load
from boat.raw_log.erase import erase
from boat.warehouse import connect
from boat.warehouse.duckdb import DuckDBWarehouse

Write = Callable[[str, str], Path]
BODY = ("session_id", "client_id", "event_time", "event_type", "product_id", "url", "query", "price", "quantity")
QUARANTINE = BadRows("quarantine", 1)


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
def file(folder: Path) -> Write:
    """Return a function that writes a landing file from a name and text."""

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in objects)


def rows(warehouse: DuckDBWarehouse, sql: str) -> list[dict[str, Any]]:
    with warehouse.transaction() as transaction:
        return transaction.query(sql).to_pylist()


def events(warehouse: DuckDBWarehouse) -> list[dict[str, Any]]:
    """Return the events in the order of files and lines, without empty fields. `extra` is a nested dictionary."""
    stored = rows(warehouse, "from raw.events order by source_file, source_line, event_time, event_id")
    return [_body(row) for row in stored]


def _body(row: dict[str, Any]) -> dict[str, Any]:
    body = {name: row[name] for name in BODY if row[name] is not None}
    return body | ({"extra": json.loads(row["extra"])} if row["extra"] else {})


def letters(warehouse: DuckDBWarehouse) -> list[tuple[int, str, str]]:
    stored = rows(warehouse, "select source_line, reason, field from raw.dead_letters order by source_line, reason")
    return [(row["source_line"], row["reason"], row["field"]) for row in stored]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def unused(report: LoadReport) -> dict[str, int]:
    return {name: n for file in report.files for name, n in file.unused}


REES46 = """event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:05 UTC,cart,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:09 UTC,remove_from_cart,44600062,2103807459595387724,,,35.79,541312140,72d76fde
2019-10-01 00:01:00 UTC,purchase,1004856,2053013555631882655,electronics.smartphone,samsung,130.76,541312140,72d76fde
"""


def test_rees46(warehouse: DuckDBWarehouse, file: Write) -> None:
    load(warehouse, file("2019-Oct.csv.gz", REES46))
    loaded = events(warehouse)
    assert [event["event_type"] for event in loaded] == ["detail", "add", "remove", "purchase"]
    assert loaded[3] == {
        "session_id": "72d76fde",
        "client_id": "541312140",
        "event_time": at("2019-10-01 00:01:00"),
        "event_type": "purchase",
        "product_id": "1004856",
        "price": 130.76,
        "extra": {
            "category_id": "2053013555631882655",
            "category_code": "electronics.smartphone",
            "brand": "samsung",
        },
    }


RETAILROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,248676,
1433224300100,992329,transaction,248676,4000
1433224300133,992329,transaction,318965,4000
"""


def test_retailrocket_with_its_other_files(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("events.csv", RETAILROCKET)
    file("item_properties_part1.csv", "timestamp,itemid,property,value\n1435460400000,460429,categoryid,1338\n")
    file("category_tree.csv", "categoryid,parentid\n1016,213\n")
    report = load(warehouse, folder)
    assert [event["event_type"] for event in events(warehouse)] == ["detail", "add", "purchase", "purchase"]
    assert [event.get("extra") for event in events(warehouse)[2:]] == [{"transaction_id": "4000"}] * 2
    assert [(ignored.name, ignored.reason) for ignored in report.ignored] == [
        ("category_tree.csv", "contains a tree of categories, no events"),
        ("item_properties_part1.csv", "contains properties of items, no events"),
    ]


def test_a_single_file_without_events_is_an_error(warehouse: DuckDBWarehouse, file: Write) -> None:
    path = file("item_properties_part2.csv", "timestamp,itemid,property,value\n1435460400000,460429,888,n12.0\n")
    with pytest.raises(
        DataError, match=r"item_properties_part2\.csv: the file contains properties of items, no events"
    ):
        load(warehouse, path)


def parameter(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": {"string_value": None, "int_value": None, "float_value": None} | value}


def ga4(name: str, second: int, *parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    event_params = [parameter("page_location", string_value="https://s.example/p"), *parameters]
    return {
        "event_date": "20240501",
        "event_timestamp": str(1714557600000000 + second * 1_000_000),
        "event_name": name,
        "event_params": [*event_params, parameter("ga_session_id", int_value="1714557600")],
        "user_pseudo_id": "11.22",
        "user_id": None,
        "items": [],
    } | fields


GA4 = lines(
    ga4("session_start", 0),
    ga4("page_view", 0),
    ga4("view_search_results", 1, parameter("search_term", string_value="red shoe")),
    ga4("view_item", 2, items=[{"item_id": "p1", "item_name": "Mug", "price": 9.5, "quantity": None}]),
    ga4("click", 3, parameter("outbound", string_value="true")),
    ga4("our_own_event", 4),
    ga4(
        "purchase",
        5,
        parameter("transaction_id", string_value="T1"),
        parameter("currency", string_value="EUR"),
        user_id="u7",
        items=[
            {"item_id": "p1", "price": 9.5, "quantity": "2", "item_category": "cups"},
            {"item_id": "p2", "price": 3, "quantity": "1"},
        ],
        ecommerce={"transaction_id": "T1", "tax_value": 1.5, "shipping_value": 4.0, "purchase_revenue": 22.0},
    ),
)


def test_ga4_from_bigquery(warehouse: DuckDBWarehouse, file: Write) -> None:
    report = load(warehouse, file("events_20240501.json", GA4))
    assert unused(report) == {"click": 1, "our_own_event": 1, "session_start": 1}
    assert [done.notes for done in report.files] == [("read as an export of the layout ga4",)]
    common = {"session_id": "1714557600", "client_id": "11.22", "url": "https://s.example/p"}
    order = {"transaction_id": "T1", "currency": "EUR", "tax": 1.5, "shipping": 4.0, "user_id": "u7"}
    expected = [
        {"event_type": "pageview", "event_time": at("2024-05-01 10:00:00")},
        {"event_type": "search", "event_time": at("2024-05-01 10:00:01"), "query": "red shoe"},
        {
            "event_type": "detail",
            "event_time": at("2024-05-01 10:00:02"),
            "product_id": "p1",
            "price": 9.5,
            "extra": {"item_name": "Mug"},
        },
        {
            "event_type": "purchase",
            "event_time": at("2024-05-01 10:00:05"),
            "product_id": "p1",
            "price": 9.5,
            "quantity": 2,
            "extra": order | {"item_category": "cups"},
        },
        {
            "event_type": "purchase",
            "event_time": at("2024-05-01 10:00:05"),
            "product_id": "p2",
            "price": 3,
            "quantity": 1,
            "extra": order,
        },
    ]
    loaded = sorted(events(warehouse), key=lambda event: (event["event_time"], event.get("product_id", "")))
    assert loaded == [common | event for event in expected]
    line_numbers = rows(warehouse, "select distinct source_line as line from raw.events order by line")
    assert [row["line"] for row in line_numbers] == [2, 3, 4, 7]


def test_a_product_event_of_ga4_without_items_is_a_bad_row(warehouse: DuckDBWarehouse, file: Write) -> None:
    bad = [
        ga4("view_item", 0),
        ga4("purchase", 1, items=[{"item_name": "Mug"}]),
        ga4("add_to_cart", 2, items={"item_id": "p"}),
        ga4("page_view", 3, event_params="many"),
    ]
    load(warehouse, file("ga4.ndjson", lines(*bad, ga4("page_view", 4))), QUARANTINE)
    assert letters(warehouse) == [
        (1, "missing", "product_id"),
        (2, "missing", "product_id"),
        (3, "wrong_type", "items"),
        (4, "wrong_type", "event_params"),
    ]
    assert len(events(warehouse)) == 1


def test_ga4_from_bigquery_as_one_array(warehouse: DuckDBWarehouse, file: Write) -> None:
    objects = [json.loads(line) for line in GA4.splitlines()]
    load(warehouse, file("ga4.json", json.dumps(objects, indent=1)))
    assert len(events(warehouse)) == 5


def test_ga4_from_bigquery_as_parquet(warehouse: DuckDBWarehouse, folder: Path) -> None:
    objects = [json.loads(line) for line in GA4.splitlines()]
    pq.write_table(pa.Table.from_pylist(objects), folder / "ga4.parquet")
    (folder / "ga4.ndjson").write_text(GA4)
    load(warehouse, folder / "ga4.parquet")
    from_parquet = events(warehouse)
    assert len(from_parquet) == 5
    report = load(warehouse, folder / "ga4.ndjson")
    assert (report.accepted, report.duplicate) == (0, 5)


GA4_FLAT = """event_name,event_timestamp,user_pseudo_id,ga_session_id,page_location,item_id,price,quantity,\
transaction_id,tax_value
session_start,1714557600000000,11.22,1714557600,https://s.example/p,,,,,
page_view,1714557600000000,11.22,1714557600,https://s.example/p,,,,,
click,1714557603000000,11.22,1714557600,https://s.example/p,,,,,
view_item,1714557602000000,11.22,1714557600,https://s.example/p,p1,9.5,,,
purchase,1714557605000000,11.22,1714557600,https://s.example/p,p1,9.5,2,T1,1.5
our_own_event,1714557605000000,11.22,1714557600,https://s.example/p,,,,(not set),
"""


def test_ga4_flat(warehouse: DuckDBWarehouse, file: Write) -> None:
    report = load(warehouse, file("flat.csv", GA4_FLAT))
    assert unused(report) == {"click": 1, "our_own_event": 1, "session_start": 1}
    loaded = events(warehouse)
    assert [event["event_type"] for event in loaded] == ["pageview", "detail", "purchase"]
    assert loaded[2]["extra"] == {"transaction_id": "T1", "tax": "1.5"}


def test_ga4_flat_as_json_with_names_of_other_systems(warehouse: DuckDBWarehouse, file: Write) -> None:
    common = {"event_timestamp": 1714557600000000, "user_pseudo_id": "11.22"}
    names = [("view", "p1"), ("click", "p1"), ("click", None), ("order", None), ("page", None), ("add_to_cart", None)]
    text = lines(*({"event_name": name, "item_id": product, **common} for name, product in names))
    report = load(warehouse, file("flat.ndjson", text), QUARANTINE)
    assert [(event["event_type"], event.get("product_id")) for event in events(warehouse)] == [
        ("detail", "p1"),
        ("click", "p1"),
        ("pageview", None),
    ]
    assert unused(report) == {"click": 1, "order": 1}
    assert letters(warehouse) == [(6, "missing", "product_id")]


def test_ga4_nested_and_flat_give_the_same_events(warehouse: DuckDBWarehouse, file: Write) -> None:
    load(warehouse, file("nested.ndjson", GA4))
    header, *flat = GA4_FLAT.splitlines()
    report = load(warehouse, file("flat.csv", "\n".join([header, *flat])))
    assert (report.accepted, report.duplicate) == (0, 3)


HM = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,000058a1,0663713001,0.0508,2
2018-09-20,000058a1,0541518023,0.0304,2
2018-09-20,000058a1,0541518023,0.0304,2
"""


def test_hm(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("transactions_train.csv", HM)
    file(
        "articles.csv",
        "article_id,product_code,prod_name,product_group_name,index_group_name\n"
        "0663713001,0663713,Atlanta,Underwear,Ladieswear\n",
    )
    file("customers.csv", "customer_id,FN,Active,club_member_status\n000058a1,,,ACTIVE\n")
    report = load(warehouse, folder)
    loaded = events(warehouse)
    assert [event["product_id"] for event in loaded] == ["0663713001", "0541518023", "0541518023"]
    assert loaded[0] == {
        "client_id": "000058a1",
        "event_time": at("2018-09-20"),
        "event_type": "purchase",
        "product_id": "0663713001",
        "price": 0.0508,
        "quantity": 1,
        "extra": {"sales_channel_id": "2"},
    }
    (product,) = rows(warehouse, "select product_id, product_name, category from raw.products")
    assert product == {"product_id": "0663713001", "product_name": "Atlanta", "category": "Underwear"}
    assert [(ignored.name, ignored.reason) for ignored in report.ignored] == [
        ("customers.csv", "contains customers, no events")
    ]


def test_a_bad_row_of_a_layout_is_named_by_the_columns_of_the_file(warehouse: DuckDBWarehouse, file: Write) -> None:
    path = file("transactions_train.csv", HM + "yesterday,000058a1,1,1,2\n")
    with pytest.raises(DataError, match=r"transactions_train\.csv:5: t_dat 'yesterday' is not a time"):
        load(warehouse, path)


def test_hm_as_parquet_with_a_list_for_an_id_is_refused(warehouse: DuckDBWarehouse, folder: Path) -> None:
    row = {"t_dat": at("2018-09-20"), "customer_id": "c", "article_id": 663713001, "price": 0.5}
    pq.write_table(pa.Table.from_pylist([row]), folder / "good.parquet")
    load(warehouse, folder)
    assert [event["product_id"] for event in events(warehouse)] == ["663713001"]
    pq.write_table(pa.Table.from_pylist([row | {"article_id": ["a", "b"]}]), folder / "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet: the column 'article_id' has the type list.*not an id"):
        load(warehouse, folder)


ORDERS = """order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order
2,u1,prior,2,3,15,1.0
1,u1,prior,1,2,08,
3,u1,train,3,5,09,30.0
9,u2,test,1,0,00,
"""
LINES = """order_id,product_id,add_to_cart_order,reordered
1,49302,1,0
1,11109,2,0
2,49302,1,1
"""


def test_instacart(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("orders.csv", ORDERS)
    file("order_products__prior.csv", LINES)
    file("order_products__train.csv", "order_id,product_id,add_to_cart_order,reordered\n3,5,1,0\n7,5,1,0\n")
    file("products.csv", "product_id,product_name,aisle_id,department_id\n49302,Bulgarian Yogurt,120,16\n")
    file("aisles.csv", "aisle_id,aisle\n120,yogurt\n")
    report = load(warehouse, folder, QUARANTINE)
    loaded = events(warehouse)
    assert [(event["client_id"], event["event_time"], event["product_id"]) for event in loaded] == [
        ("u1", at("2017-01-03 08:00:00"), "49302"),
        ("u1", at("2017-01-03 08:00:01"), "11109"),
        ("u1", at("2017-01-04 15:00:00"), "49302"),
        ("u1", at("2017-02-03 09:00:00"), "5"),  # 30 days after the previous order
    ]
    assert loaded[1]["extra"] == {"transaction_id": "1", "add_to_cart_order": "2", "reordered": "0"}
    assert letters(warehouse) == [(3, "missing", "order_id")]
    assert rows(warehouse, "select product_id, category from raw.products") == [
        {"product_id": "49302", "category": "120"}
    ]
    assert [ignored.name for ignored in report.ignored] == ["aisles.csv"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("orders.csv", ORDERS, "contains orders, and their lines are not in the same folder"),
        (
            "order_products__prior.csv",
            LINES,
            "contains lines of orders, and 'orders' with the orders is not in the same folder",
        ),
    ],
)
def test_orders_and_their_lines_must_be_in_the_same_folder(
    warehouse: DuckDBWarehouse, folder: Path, file: Write, name: str, text: str, reason: str
) -> None:
    file(name, text)
    (ignored,) = load(warehouse, folder).ignored
    assert ignored.name == name
    assert ignored.reason.startswith(reason)


def test_lines_of_orders_are_loaded_again_if_the_orders_have_changed(
    warehouse: DuckDBWarehouse, folder: Path, file: Write
) -> None:
    path = file("order_products__prior.csv", LINES)
    file("orders.csv", ORDERS)
    assert load(warehouse, path).accepted == 3
    file("orders.csv", ORDERS.replace("u1", "u5"))
    assert load(warehouse, path).accepted == 3


def test_diginetica(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file(
        "train-item-views.csv",
        "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n1;77;31331;1031018;2016-05-09\n",
    )
    file(
        "train-purchases.csv",
        "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n1;NA;1100000;2016-05-09;32100;31331\n",
    )
    file(
        "train-queries.csv",
        "queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;items;is.test\n"
        "1;1;NA;100;20;2016-05-09;4875,7766;0;81766,31331;FALSE\n"
        "2;1;NA;200;20;2016-05-09;;1023;81766;FALSE\n",
    )
    file("products.csv", "itemId;pricelog2;product.name.tokens\n81766;10;4875,776\n31331;NA;1\n")
    file("product-categories.csv", "itemId;categoryId\n81766;1023\n")
    file("train-clicks.csv", "queryId;timeframe;itemId\n1;20000;81766\n")
    report = load(warehouse, folder)
    views, purchase, search, category = events(warehouse)[:2], *events(warehouse)[2:]
    assert views == [
        {"session_id": "1", "event_time": at("2016-05-09 00:08:46.309"), "event_type": "detail", "product_id": "81766"},
        {
            "session_id": "1",
            "client_id": "77",
            "event_time": at("2016-05-09 00:17:11.018"),
            "event_type": "detail",
            "product_id": "31331",
        },
    ]
    assert (purchase["event_type"], purchase["product_id"]) == ("purchase", "31331")
    assert purchase["extra"] == {"transaction_id": "32100"}
    assert (search["event_type"], search["query"]) == ("search", "4875,7766")
    assert (category["event_type"], category["extra"]["categoryId"]) == ("pageview", "1023")
    assert rows(warehouse, "select product_id, price from raw.products order by product_id desc") == [
        {"product_id": "81766", "price": 1024.0},
        {"product_id": "31331", "price": None},
    ]
    assert [ignored.name for ignored in report.ignored] == ["product-categories.csv", "train-clicks.csv"]


def test_diginetica_with_other_names_and_bad_times(warehouse: DuckDBWarehouse, file: Write) -> None:
    text = "session_id;user_id;item_id;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n2;NA;5;soon;2016-05-09\n"
    load(warehouse, file("train-item-views.csv", text), QUARANTINE)
    assert [event["session_id"] for event in events(warehouse)] == ["1"]
    assert letters(warehouse) == [(3, "not_a_time", "event_time")]


CLICKS = "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n"
BUYS = "1,2014-04-07T11:00:00.000Z,214536500,12462,1\n1,2014-04-07T11:00:00.000Z,214536502,0,0\n"


def test_yoochoose(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("yoochoose-clicks.dat", CLICKS)
    file("yoochoose-buys.dat", BUYS)
    load(warehouse, folder)
    loaded = events(warehouse)
    assert loaded == [
        {
            "session_id": "1",
            "event_time": at("2014-04-07 11:00:00"),
            "event_type": "purchase",
            "product_id": "214536500",
            "price": 12462,
            "quantity": 1,
        },
        {
            "session_id": "1",
            "event_time": at("2014-04-07 11:00:00"),
            "event_type": "purchase",
            "product_id": "214536502",
        },
        {
            "session_id": "1",
            "event_time": at("2014-04-07 10:51:09.277"),
            "event_type": "detail",
            "product_id": "214536502",
            "extra": {"category": "0"},
        },
        {
            "session_id": "1",
            "event_time": at("2014-04-07 10:54:09.868"),
            "event_type": "detail",
            "product_id": "214536500",
            "extra": {"category": "S"},
        },
    ]
    line_numbers = rows(warehouse, "select source_line as line from raw.events order by source_file, source_line")
    assert [row["line"] for row in line_numbers] == [1, 2, 1, 2]


@pytest.mark.parametrize("name", ["yoochoose/export.csv", "yoochoose/part.dat"])
def test_a_folder_can_name_a_layout(warehouse: DuckDBWarehouse, folder: Path, file: Write, name: str) -> None:
    file(name, CLICKS)
    load(warehouse, folder)
    assert [event["product_id"] for event in events(warehouse)] == ["214536502", "214536500"]


@pytest.mark.parametrize("name", ["export.csv", "export.dat", "export.csv.gz"])
def test_a_layout_can_be_named(warehouse: DuckDBWarehouse, file: Write, name: str) -> None:
    load(warehouse, file(name, CLICKS), layout="yoochoose")
    assert [event["product_id"] for event in events(warehouse)] == ["214536502", "214536500"]


def test_a_damaged_line_of_a_file_without_a_header_is_named(warehouse: DuckDBWarehouse, file: Write) -> None:
    path = file("yoochoose-clicks.dat", f"{CLICKS}\n1,2014-04-07\n{CLICKS.replace('1,', '2,')}")
    with pytest.raises(DataError, match=r"yoochoose-clicks\.dat:4: 2 fields, but the layout has 4"):
        load(warehouse, path)
    load(warehouse, path, QUARANTINE)
    line_numbers = rows(warehouse, "select source_line as line from raw.events order by line")
    assert [row["line"] for row in line_numbers] == [1, 2, 5, 6]
    assert letters(warehouse) == [(4, "wrong_field_count", "")]


def test_otto_keeps_the_order_of_its_lists(warehouse: DuckDBWarehouse, file: Write) -> None:
    ts = 1661724000278
    session = {
        "session": 12899779,
        "events": [
            {"aid": 59625, "ts": ts, "type": "clicks"},
            {"aid": 3, "ts": ts + 1, "type": "clicks"},
            {"aid": 2, "ts": ts + 1, "type": "clicks"},
            {"aid": 1, "ts": ts + 1, "type": "clicks"},
            {"aid": 1, "ts": ts + 5, "type": "carts"},
            {"aid": 1, "ts": ts + 9, "type": "orders"},
        ],
    }
    text = lines(session, {"session": 5, "events": []}, {"session": 6, "events": "none"}, {"session": 7})
    load(warehouse, file("train.jsonl", text), QUARANTINE)
    loaded = events(warehouse)
    assert [(event["event_type"], event["product_id"]) for event in loaded] == [
        ("detail", "59625"),
        ("detail", "3"),
        ("detail", "2"),
        ("detail", "1"),
        ("add", "1"),
        ("purchase", "1"),
    ]
    assert loaded[1] == {
        "session_id": "12899779",
        "event_time": at("2022-08-28 22:00:00.279"),
        "event_type": "detail",
        "product_id": "3",
    }
    assert letters(warehouse) == [(3, "wrong_type", "events"), (4, "wrong_type", "events")]


def test_otto_events_without_a_time_or_with_an_unknown_type_are_bad_rows(
    warehouse: DuckDBWarehouse, file: Write
) -> None:
    session = {"session": 1, "events": [{"aid": 1, "ts": 1661724000278, "type": "stares"}, {"aid": 2}, 7]}
    load(warehouse, file("otto.ndjson", lines(session)), QUARANTINE)
    assert [(line, field) for line, _reason, field in letters(warehouse)] == [
        (1, "event_time"),
        (1, "event_time"),
        (1, "event_type"),
    ]


TAOBAO = "1,2268318,2520377,pv,1511544070\n1,2268318,2520377,fav,1511544071\n1,2333346,2520771,buy,1511561733\n"


def test_taobao(warehouse: DuckDBWarehouse, file: Write) -> None:
    report = load(warehouse, file("UserBehavior.csv", TAOBAO))
    assert unused(report) == {"fav": 1}
    assert events(warehouse) == [
        {
            "client_id": "1",
            "event_time": at("2017-11-24 17:21:10"),
            "event_type": "detail",
            "product_id": "2268318",
            "extra": {"category_id": "2520377"},
        },
        {
            "client_id": "1",
            "event_time": at("2017-11-24 22:15:33"),
            "event_type": "purchase",
            "product_id": "2333346",
            "extra": {"category_id": "2520771"},
        },
    ]


TMALL_HEADER = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type\n"
TMALL = "328862,323294,833,2882,2661,829,0\n328862,844400,1271,2882,2661,0829,2\n328862,575153,1271,2882,,1111,3\n"


@pytest.mark.parametrize("header", ["", TMALL_HEADER])
def test_tmall_with_and_without_a_header(warehouse: DuckDBWarehouse, file: Write, header: str) -> None:
    report = load(
        warehouse, file("user_log_format1.csv", header + TMALL + "1,2,3,4,5,1332,0\n1,2,3,4,5,901,9\n"), QUARANTINE
    )
    assert unused(report) == {"fav": 1}
    assert [(event["event_type"], event["event_time"]) for event in events(warehouse)] == [
        ("detail", at("2014-08-29")),
        ("purchase", at("2014-08-29")),
    ]
    first = 5 if header else 4
    assert letters(warehouse) == [(first, "not_a_time", "event_time"), (first + 1, "unknown_event_type", "event_type")]


def call(event: str | None, second: int, /, kind: str = "track", **properties: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "event": event,
        "anonymousId": "11.22",
        "userId": None,
        "messageId": f"m-{second}",
        "originalTimestamp": "2024-05-01T10:00:59Z",
        "timestamp": f"2024-05-01T10:00:0{second}.000Z",
        "receivedAt": "2024-05-01T10:00:30.000Z",
        "context": {"page": {"url": "https://s.example/p"}},
        "properties": properties,
    }


def test_segment(warehouse: DuckDBWarehouse, file: Write) -> None:
    ordered = [
        {"product_id": "p1", "price": 9.5, "quantity": 2, "name": "Mug"},
        {"sku": "p2", "price": 3, "quantity": 1},
    ]
    text = lines(
        call(None, 0, "page", url="https://s.example/start"),
        call("Products Searched", 1, query="red shoe"),
        call("Product Viewed", 2, product_id="p1", price=9.5, sku="G-1", event_type="x"),
        call("Product Added", 3, product_id="p1", quantity=2),
        call("Order Completed", 5, order_id="T1", tax=1.5, shipping=4, currency="EUR", products=ordered),
        call(None, 6, "identify"),
        call("Something Else", 7, products="many"),
        call("Order Completed", 8, order_id="T2"),
    )
    report = load(warehouse, file("segment.ndjson", text), QUARANTINE)
    assert unused(report) == {"Something Else": 1, "identify call": 1}
    loaded = events(warehouse)
    assert [event["event_type"] for event in loaded] == ["pageview", "search", "detail", "add", "purchase", "purchase"]
    assert loaded[0]["url"] == "https://s.example/start"
    assert loaded[1]["query"] == "red shoe"
    assert loaded[2] == {
        "client_id": "11.22",
        "event_time": at("2024-05-01 10:00:02"),
        "event_type": "detail",
        "product_id": "p1",
        "url": "https://s.example/p",
        "price": 9.5,
        "extra": {"sku": "G-1"},
    }
    order = {"transaction_id": "T1", "tax": 1.5, "shipping": 4, "currency": "EUR"}
    assert [(event["product_id"], event["price"], event["quantity"], event["extra"]) for event in loaded[4:]] == [
        ("p1", 9.5, 2, order | {"name": "Mug"}),
        ("p2", 3, 1, order | {"sku": "p2"}),
    ]
    assert letters(warehouse) == [(8, "missing", "product_id")]
    ids = rows(warehouse, "select event_id from raw.events where event_type = 'purchase' order by event_id")
    assert [row["event_id"] for row in ids] == ["m-5", "m-5-2"]


def test_a_refund_of_segment_is_a_return_of_each_product(warehouse: DuckDBWarehouse, file: Write) -> None:
    refunded = call("Order Refunded", 5, order_id="T1", products=[{"product_id": "p1", "quantity": 2}])
    load(warehouse, file("segment.ndjson", lines(call("Product Viewed", 2, product_id="p1"), refunded)))
    returned = events(warehouse)[1]
    assert (returned["event_type"], returned["quantity"], returned["extra"]) == (
        "purchase",
        -2,
        {"transaction_id": "T1"},
    )


SNOWPLOW = "com_snowplowanalytics_snowplow"
ACTION = f"unstruct_event_{SNOWPLOW}_ecommerce_snowplow_ecommerce_action_1"
PRODUCTS = f"contexts_{SNOWPLOW}_ecommerce_product_1"
ORDER = f"contexts_{SNOWPLOW}_ecommerce_transaction_1"


def snowplow(name: str, second: int, **fields: Any) -> dict[str, Any]:
    return {
        "event": name,
        "event_id": f"e-{second}",
        "collector_tstamp": "2024-05-01 10:00:30.000",
        "derived_tstamp": f"2024-05-01 10:00:0{second}.000",
        "domain_userid": "11.22",
        "domain_sessionid": "s1",
        "page_url": "https://s.example/p",
    } | fields


def action(kind: str, second: int, *products: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return snowplow("unstruct", second, event_name="snowplow_ecommerce_action") | {
        ACTION: {"type": kind},
        PRODUCTS: list(products),
        **fields,
    }


def test_snowplow_with_ecommerce_actions(warehouse: DuckDBWarehouse, file: Write) -> None:
    mug = {"id": "p1", "name": "Mug", "price": 9.5}
    order = {"transaction_id": "T1", "revenue": 22, "tax": 1.5, "shipping": 4}
    text = lines(
        snowplow("page_view", 0),
        snowplow("page_ping", 1),
        snowplow("unstruct", 1, event_name="site_search")
        | {f"unstruct_event_{SNOWPLOW}_site_search_1": {"terms": ["red", "shoe"]}},
        action("product_view", 2, mug),
        action("add_to_cart", 3, mug | {"quantity": 2}),
        action("list_view", 4, mug),
        action("transaction", 5, mug | {"quantity": 2}, {"id": "p2", "price": 3, "quantity": 1}, **{ORDER: [order]}),
        action("product_view", 6),
    )
    report = load(warehouse, file("snowplow.ndjson", text), QUARANTINE)
    assert unused(report) == {"ecommerce_list_view": 1, "page_ping": 1}
    loaded = events(warehouse)
    assert [event["event_type"] for event in loaded] == ["pageview", "search", "detail", "add", "purchase", "purchase"]
    assert loaded[1]["query"] == "red shoe"
    assert loaded[4] == {
        "session_id": "s1",
        "client_id": "11.22",
        "event_time": at("2024-05-01 10:00:05"),
        "event_type": "purchase",
        "product_id": "p1",
        "url": "https://s.example/p",
        "price": 9.5,
        "quantity": 2,
        "extra": {"transaction_id": "T1", "revenue": 22, "tax": 1.5, "shipping": 4, "name": "Mug"},
    }
    assert letters(warehouse) == [(8, "missing", "product_id")]


def test_snowplow_with_older_events_and_refunds(warehouse: DuckDBWarehouse, file: Write) -> None:
    added = {f"unstruct_event_{SNOWPLOW}_add_to_cart_1": {"sku": "p1", "unit_price": 9.5, "quantity": 2}}
    refund = {f"contexts_{SNOWPLOW}_ecommerce_refund_1_0_0": [{"transaction_id": "T1", "refund_amount": 9.5}]}
    text = lines(
        snowplow("unstruct", 1, event_name="add_to_cart") | added,
        action("refund", 2, {"id": "p1", "price": 9.5}, **refund),
        snowplow("struct", 3, event_name="event"),
        snowplow("unstruct", 4, event_name="add_to_cart"),
    )
    report = load(warehouse, file("snowplow.ndjson", text), QUARANTINE)
    assert unused(report) == {"struct": 1}
    loaded = [(event["event_type"], event["product_id"], event["quantity"]) for event in events(warehouse)]
    assert loaded == [("add", "p1", 2), ("purchase", "p1", -1)]
    assert events(warehouse)[1]["extra"] == {"transaction_id": "T1"}
    assert letters(warehouse) == [(4, "missing", "product_id")]


SNOWPLOW_TABLE = """event,event_name,collector_tstamp,derived_tstamp,event_id,domain_userid,\
domain_sessionid,user_id,page_url,tr_orderid,ti_orderid,ti_sku,ti_price,ti_quantity
page_view,page_view,2024-05-01 10:00:30,2024-05-01 10:00:00,e-0,11.22,s1,,https://s.example/p,,,,,
transaction,transaction,2024-05-01 10:00:30,2024-05-01 10:00:05,e-1,11.22,s1,,https://s.example/p,T1,,,,
transaction_item,transaction_item,2024-05-01 10:00:30,2024-05-01 10:00:05,e-2,11.22,s1,u7,https://s.example/p,,T1,007,9.5,2
"""


def test_snowplow_as_a_table(warehouse: DuckDBWarehouse, file: Write) -> None:
    report = load(warehouse, file("atomic.csv", SNOWPLOW_TABLE))
    assert unused(report) == {"transaction": 1}
    _view, purchase = events(warehouse)
    assert purchase == {
        "session_id": "s1",
        "client_id": "11.22",
        "event_time": at("2024-05-01 10:00:05"),
        "event_type": "purchase",
        "product_id": "007",
        "url": "https://s.example/p",
        "price": 9.5,
        "quantity": 2,
        "extra": {"transaction_id": "T1", "user_id": "u7"},
    }


def test_ecommerce_actions_of_snowplow_in_a_table_are_json_texts(warehouse: DuckDBWarehouse, folder: Path) -> None:
    row = action("transaction", 5, {"id": 7, "price": 3}, {"id": 8, "price": 4})
    texts = {name: json.dumps(value) if isinstance(value, (dict, list)) else value for name, value in row.items()}
    pq.write_table(pa.Table.from_pylist([{name.upper(): text for name, text in texts.items()}]), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist([row | {"event_id": "other"}]), folder / "b.parquet")
    load(warehouse, folder)
    assert [event["product_id"] for event in events(warehouse)] == ["7", "8"] * 2


def test_blank_lines_of_an_export_are_skipped(warehouse: DuckDBWarehouse, folder: Path, file: Write) -> None:
    file("ga4.ndjson", "\n" + lines(ga4("page_view", 1)) + "\n\n")
    file("UserBehavior.csv", "\n\n" + TAOBAO)
    report = load(warehouse, folder)
    assert [(done.received, done.accepted) for done in report.files] == [(2, 2), (1, 1)]
    line_numbers = rows(warehouse, "select source_line as line from raw.events order by source_file, source_line")
    assert [row["line"] for row in line_numbers] == [3, 5, 2]


def test_the_same_events_in_two_layouts_are_the_same_rows(
    warehouse: DuckDBWarehouse, folder: Path, file: Write
) -> None:
    load(warehouse, file("ga4.ndjson", lines(ga4("view_item", 2, items=[{"item_id": "p1", "price": 9.5}]))))
    load(warehouse, file("segment.ndjson", lines(call("Product Viewed", 2, product_id="p1", price=9.5))))
    load(warehouse, file("snowplow.ndjson", lines(action("product_view", 2, {"id": "p1", "price": 9.5}))))
    bodies = [{**event, "session_id": None} for event in events(warehouse)]
    assert bodies == [bodies[0]] * 3


def test_a_generic_file_with_some_columns_of_a_layout_is_not_of_this_layout(folder: Path, file: Write) -> None:
    file("a.ndjson", lines({"type": "page", "userId": "u", "timestamp": "2024-05-01", "url": "/"}))
    file("b.csv", "session,events,event_time,event_type\ns,1,2024-05-01,search\n")
    file("c.csv", "customer_id,article_id,event_time,event_type\nc,1,2024-05-01,view\n")
    file("d.ndjson", lines({"session": "s", "events": 3, "ts": 1714557600, "event": "search"}))
    file("orders.csv", "order_id,user_id,event_time,event_type\n1,2,2024-05-01,search\n")
    file("e.csv", "session_id,timestamp,item_id,category,event_type\ns,2024-05-01,1,2,add\n")
    file("f.csv", "event_name,derived_tstamp,domain_userid,sku\nview_item,2024-05-01,u,p\n")
    file("taobao/g.csv", "user_id,item_id,action,price,time\nu,p,view,2,2024-05-01\n")
    file("h.csv", "session_id,item_id,timeframe,eventdate,event_type,ts\n1,2,7112,2016-01-03,purchase,2016-01-03\n")
    file("i.csv", "article_id,prod_name,product_code,event,ts\n1,a,2,view,2016-01-03\n")
    files, ignored = discover(folder)
    assert [landing_file.layout for landing_file in files] == [None] * 10
    assert ignored == ()


def test_an_unknown_layout_is_named_with_the_known_layouts(warehouse: DuckDBWarehouse, file: Write) -> None:
    with pytest.raises(SettingError, match=r"'yochoose' is unknown.*Use one of: diginetica, ga4, hm.*yoochoose"):
        load(warehouse, file("a.csv", CLICKS), layout="yochoose")


@pytest.mark.parametrize(
    ("name", "text", "layout", "message"),
    [
        ("a.csv", "1,2,3\n", "yoochoose", r"a\.csv: .*layout yoochoose: its first line has 3 fields, not 4 or 5"),
        ("a.csv", "t_dat,customer_id,price\n2018-09-20,1,2\n", "hm", r"a\.csv: .*layout hm: it has no article_id"),
        ("a.ndjson", '{"session": 1}\n', "otto", r"a\.ndjson: .*layout otto: it has no events"),
        ("a.ndjson", '{"t_dat": 1}\n', "hm", r"a\.ndjson: the file does not have the layout hm"),
        ("a.csv", HM, "taobao", r"a\.csv: .*layout taobao: it has no user_id"),
    ],
)
def test_a_file_that_does_not_have_the_named_layout_is_refused(
    warehouse: DuckDBWarehouse, file: Write, name: str, text: str, layout: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(warehouse, file(name, text), layout=layout)


def test_a_named_layout_does_not_apply_to_catalogues_and_files_of_the_collector(
    warehouse: DuckDBWarehouse, folder: Path, file: Write
) -> None:
    file("products.csv", "product_id,price\n1,2\n")
    file(
        "20240101T100000-0a1b2c3d.ndjson", lines({"event_type": "search", "session_id": "s", "event_time": 1714557600})
    )
    file("data.csv", TAOBAO)
    report = load(warehouse, folder, layout="taobao")
    assert [(done.kind, done.accepted) for done in report.files] == [("events", 1), ("events", 2), ("catalogue", 1)]


def test_the_command_accepts_a_layout(tmp_path: Path, file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path, url = file("log.csv", TMALL), f"duckdb:///{tmp_path}/w.duckdb"
    assert main(["load", str(path), "--warehouse", url, "--layout", "tmall"]) == 0
    assert "accepted 2" in capsys.readouterr().out
    assert main(["load", str(path), "--warehouse", url, "--layout", "tmal"]) == 1
    assert "Use one of" in capsys.readouterr().err


def test_every_layout_has_a_section_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
    assert [layout for layout in LAYOUTS if f"`{layout}`" not in docs] == []
    assert docs.count("\n## ") == len(LAYOUTS) + len(("Set a layout", "Coveo"))


@pytest.mark.parametrize(
    ("name", "text", "client"),
    [
        ("UserBehavior.csv", TAOBAO + "2,9,9,pv,1511544070\n", "1"),
        ("ga4.ndjson", GA4 + lines(ga4("page_view", 9, user_pseudo_id="33.44")), "11.22"),
    ],
)
def test_a_client_is_erased_from_a_file_of_a_layout(
    warehouse: DuckDBWarehouse, tmp_path: Path, folder: Path, file: Write, name: str, text: str, client: str
) -> None:
    path = file(name, text)
    load(warehouse, folder)
    proof = erase(warehouse, folder, tmp_path / "snapshots", "shop", client, dry_run=False)
    assert proof.is_complete
    assert len(events(warehouse)) == 1
    report = load(warehouse, folder)
    assert [done.already_loaded for done in report.files] == [True]
    assert path.read_text().strip() == text.splitlines()[-1]


VALUES = (None, True, -1, 1e300, 1714557600, "", "x", "NA", '\u00e9"', [], [None], [[1]], {}, {"a": [None]}, "[1", "{}")
PARTS = {
    "ga4": [json.loads(line) for line in GA4.splitlines()],
    "otto": [{"session": 1, "events": [{"aid": 1, "ts": 1661724000278, "type": "clicks"}] * 2}],
    "segment": [
        call("Product Viewed", 1, product_id="p1", price=9.5),
        call("Order Completed", 2, order_id="T1", products=[{"product_id": "p1"}, {"sku": "p2"}]),
    ],
    "snowplow": [
        snowplow("page_view", 1),
        action("transaction", 2, {"id": "p1"}, {"id": "p2"}, **{ORDER: [{"transaction_id": "T1", "tax": 1}]}),
    ],
}


def variations(part: Any) -> Iterator[Any]:
    """Yield all of `VALUES`, and copies of `part` in which one nested value is replaced by one of them."""
    yield from VALUES
    pairs: list[tuple[Any, Any]] = []
    if isinstance(part, dict):
        pairs = list(part.items())
    elif isinstance(part, list):
        pairs = list(enumerate(part))
    for key, value in pairs:
        for changed_part in variations(value):
            copy = part.copy()
            copy[key] = changed_part
            yield copy


@pytest.mark.parametrize("layout", PARTS)
def test_a_row_with_any_value_in_any_field_is_an_event_or_a_bad_row(
    warehouse: DuckDBWarehouse, folder: Path, file: Write, layout: str
) -> None:
    whole = [row for part in PARTS[layout] for row in (part, *variations(part)) if isinstance(row, dict) and row]
    report = load(warehouse, file("rows.ndjson", lines(*whole)), QUARANTINE, layout=layout)
    assert report.accepted > 0
    assert report.failed > 0
    assert report.received == report.accepted + report.duplicate + report.failed


CELLS = (
    "",
    "NA",
    "-1",
    "1e300",
    "x",
    " ",
    "0",
    "99999999999999999999",
    "294246-12-31",
    "infinity",
    "(not set)",
)
TABLES = {
    "hm": HM,
    "diginetica": "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n",
    "yoochoose": BUYS,
    "taobao": TAOBAO,
    "tmall": TMALL,
    "instacart": LINES,
    "snowplow": SNOWPLOW_TABLE,
}


@pytest.mark.parametrize("layout", TABLES)
def test_a_row_with_any_text_in_any_cell_is_an_event_or_a_bad_row(
    warehouse: DuckDBWarehouse, folder: Path, file: Write, layout: str
) -> None:
    whole, mark = TABLES[layout].splitlines(), ";" if layout == "diginetica" else ","
    cells = whole[-1].split(mark)
    for index in range(len(cells)):
        whole += [mark.join([*cells[:index], cell, *cells[index + 1 :]]) for cell in CELLS]
    if layout == "instacart":
        days = [ORDERS.splitlines()[1].replace("2,u1", f"{n},u{n}").replace("1.0", day) for n, day in enumerate(CELLS)]
        file("orders.csv", "\n".join([ORDERS.strip(), *days]))
    report = load(warehouse, file("rows.csv", "\n".join(whole)), QUARANTINE, layout=layout)
    assert report.accepted > 0
    assert report.failed > 0
    assert report.received == report.accepted + report.duplicate + report.failed


def test_the_orders_of_a_client_are_reported_and_their_lines_erased(
    warehouse: DuckDBWarehouse, tmp_path: Path, folder: Path, file: Write
) -> None:
    file("orders.csv", ORDERS.replace("u1", "530496790") + "8,530496791,prior,1,1,01,\n")
    path = file("order_products__prior.csv", LINES + "8,5,1,0\n")
    load(warehouse, folder)
    proof = erase(warehouse, folder, tmp_path / "snapshots", "shop", "530496790", dry_run=False)
    assert [event["client_id"] for event in events(warehouse)] == ["530496791"]
    assert path.read_text().split() == ["order_id,product_id,add_to_cart_order,reordered", "8,5,1,0"]
    assert not proof.is_complete
    assert "orders.csv" in proof.to_json()


def test_a_preview_accepts_a_layout(file: Write) -> None:
    text = preview(file("clicks.csv", CLICKS), layout="yoochoose").to_text()
    assert "2 rows can be loaded" in text
    assert re.search("event_time +from timestamp", text)
