"""The KPI report shows traffic, sales and data quality of each shop, without external files."""

import base64
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from boat.quality import Outcome
from boat.reports import kpis
from boat.reports.kpis import ShopFigures

WRITTEN = datetime(2026, 3, 1, 6)
MEASURES = [
    "active_clients",
    "new_clients",
    "events",
    "pageviews",
    "details",
    "adds",
    "removes",
    "transactions",
    "sessions_with_detail",
    "sessions_with_add",
    "buying_sessions",
    "revenue",
    "tax",
    "shipping",
]


def a_shop(name: str = "shop", days: int = 15, product: str | None = "Mug", **measures: float) -> ShopFigures:
    """Return a shop with 100 sessions on every day."""
    counts = dict.fromkeys(MEASURES, 0) | {"sessions": 100, "sessions_with_detail": 60, "conversion_rate": 0.0}
    first = date(2026, 2, 1)
    rows = [{"shop": name, "day": first + timedelta(days=number), **counts, **measures} for number in range(days)]
    products = [
        {"shop": name, "product_id": "p1", "product_name": product, "views": 9, "adds": 1, "pieces": 1, "revenue": 5.5}
    ]
    return ShopFigures(name, rows, [{"hour": datetime(2026, 2, 15, 4), "sessions": 3}], [], products)


def page(
    shops: Sequence[ShopFigures],
    loads: Sequence[Any] = (),
    outcomes: Sequence[Outcome] = (),
    failed: Sequence[Any] = (),
) -> str:
    return kpis.render(shops, loads, failed, outcomes, WRITTEN)


def texts(html: str) -> str:
    """Return the SVG of all pictures."""
    pictures = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    return "".join(base64.b64decode(picture).decode() for picture in pictures)


def test_the_page_needs_no_external_file() -> None:
    html = page([a_shop()])
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html
    assert html.count("data:image/svg+xml;base64,") == 3


def test_the_last_complete_week_is_compared_with_the_week_before() -> None:
    shop = a_shop()
    days = [{**row, "sessions": 110} if index >= 7 else row for index, row in enumerate(shop.days)]
    html = page([ShopFigures(shop.shop, days, shop.hours, shop.volume, shop.products)])
    assert "8 Feb to 14 Feb 2026" in html
    assert "<td>Sessions<td>770<td>700<td>+10.0%" in html


def test_kpis_that_a_shop_does_not_send_are_omitted() -> None:
    html = page([a_shop()])
    assert "no purchases in this period" in html
    assert "New clients" not in html
    buying = page([a_shop(transactions=2, buying_sessions=2, revenue=40.0, tax=4.0, new_clients=3)])
    assert "<td>Revenue<td>280" in buying
    assert "<td>New clients<td>21" in buying
    assert "no purchases in this period" not in buying


def test_the_funnel_omits_steps_that_a_shop_does_not_send() -> None:
    assert "with a product view" in texts(page([a_shop()]))
    till = page([a_shop(sessions_with_detail=0, transactions=2, buying_sessions=2)])
    assert "with a product view" not in texts(till)
    assert "with an add to cart" not in texts(till)
    assert "with a purchase" in texts(till)


def test_a_shop_with_one_day_has_a_page() -> None:
    assert "So far" in page([a_shop(days=1)])


def test_products_have_names_and_names_are_escaped() -> None:
    html = page([a_shop(product="Mug <script>alert(1)</script>")])
    assert "Mug &lt;script&gt;" in html
    assert "<td>p1" in page([a_shop(product=None)])


def test_each_shop_has_its_own_part() -> None:
    html = page([a_shop("north & south"), a_shop("west")])
    assert "<h1>north &amp; south</h1>" in html
    assert html.count("<h2>Traffic</h2>") == 2
    assert "No sessions yet" in page([])


def test_the_page_shows_data_quality_over_time() -> None:
    outcomes = [Outcome(WRITTEN, 130, 0, 2, 0), Outcome(WRITTEN + timedelta(hours=1), 128, 3, 1, 0)]
    counts = {"received": 12345, "accepted": 12000, "duplicate": 344, "failed": 1}
    loads = [{"day": date(2026, 2, day), **counts} for day in (14, 15)]
    failed = [{"reason": "not_a_time", "failed": 2, "newest": datetime(2026, 2, 15, 4, 30)}]
    html = page([a_shop()], loads, outcomes, failed)
    assert "Expectations passed: 128. Failed: 3 critical, 1 warning. Not checked: 0." in html
    assert "<td>2026-02-15<td>12,345<td>12,000<td>344<td>1" in html
    assert "<td>not_a_time<td>2<td>2026-02-15 04:30" in html
    assert "Rows not accepted, by day" in html


def test_excluded_events_are_counted_by_reason() -> None:
    excluded = [{"reason": "bot", "events": 7, "newest": datetime(2026, 2, 15, 4, 30)}]
    html = kpis.render([a_shop()], [], [], [], WRITTEN, excluded)
    assert "<td>bot<td>7<td>2026-02-15 04:30" in html


def test_revenue_may_be_negative() -> None:
    html = page([a_shop(transactions=1, revenue=-40.0)])
    assert "<td>Revenue<td>-280" in html
