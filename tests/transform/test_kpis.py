"""KPIs of hours, days and orders, and their page."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from boat.reports import kpis
from tests.transform.conftest import Build, build, connect


def test_hourly_kpis_add_up_to_daily_kpis(built: Build) -> None:
    for measure in ("sessions", "events", "adds", "transactions", "new_clients", "buying_sessions"):
        query = f"select sum({measure}) as total from marts.kpi_"
        assert built.rows(f"{query}hourly") == built.rows(f"{query}daily")
    assert built.rows("select count(*) > 20 as many from marts.kpi_hourly") == [{"many": True}]


def test_a_client_is_new_once(built: Build) -> None:
    (total,) = built.rows("select sum(new_clients) as fresh from marts.kpi_daily")
    (distinct,) = built.rows("select count(distinct client_id) as clients from marts.fct_sessions")
    assert total["fresh"] == distinct["clients"] > 0


def test_tax_and_shipping_count_once_an_order_even_if_its_page_is_opened_again(tmp_path: Path) -> None:
    start = datetime(2024, 3, 1, 10)
    order = {"transaction_id": "o1", "tax": "2.5", "shipping": 4}
    lines = [
        {
            "event_id": f"{opened}-{product}",
            "client_id": "c",
            "event_time": (start + timedelta(hours=opened)).isoformat(),
            "event_type": "purchase",
            "product_id": product,
            "price": 10,
            "quantity": 2,
            **order,
        }
        for opened in (0, 30)  # the page of the order is opened again on the next day
        for product in ("p", "q")
    ]
    result = build(connect(tmp_path, lines), tmp_path)
    assert result.code == 0, result.output
    days = result.rows("select day, transactions, revenue, tax, shipping from marts.kpi_daily order by day")
    assert [list(day.values())[1:] for day in days] == [[1, 40.0, 2.5, 4.0], [0, 0.0, 0.0, 0.0]]
    assert json.loads(result.rows("select extra from raw.events")[0]["extra"]) == order


def test_the_page_has_every_section(built: Build, tmp_path: Path) -> None:
    path = kpis.write(built.warehouse, tmp_path / "reports")
    html = path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["kpis.html"]
    (sold,) = built.rows(
        """select product_id from marts.fct_session_events where event_type = 'purchase'
        group by product_id order by sum(price) desc, count(*) desc limit 1"""
    )
    assert f"<td>{sold['product_id']}" in html
    for part in ("Traffic", "Funnel", "Conversion", "Revenue", "Top products", "Rows loaded"):
        assert f"<h2>{part}" in html
