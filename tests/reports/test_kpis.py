"""The KPI page: what it says of a shop, and that it says it without help from elsewhere."""

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
    """A shop with 100 sessions on every day."""
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
    """What the pictures say."""
    pictures = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    return "".join(base64.b64decode(picture).decode() for picture in pictures)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = page([a_shop()])
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "<script" not in html
    assert html.count("data:image/svg+xml;base64,") == 3


def test_the_last_complete_week_stands_beside_the_one_before() -> None:
    shop = a_shop()
    days = [{**row, "sessions": 110} if index >= 7 else row for index, row in enumerate(shop.days)]
    html = page([ShopFigures(shop.shop, days, shop.hours, shop.volume, shop.products)])
    assert "8 Feb to 14 Feb 2026" in html
    assert "<td>Sessions<td>770<td>700<td>+10.0%" in html


def test_what_a_shop_does_not_know_is_left_out() -> None:
    html = page([a_shop()])
    assert "Nobody purchased" in html
    assert "New clients" not in html
    buying = page([a_shop(transactions=2, buying_sessions=2, revenue=40.0, tax=4.0, new_clients=3)])
    assert "<td>Revenue<td>280" in buying
    assert "<td>New clients<td>21" in buying
    assert "Nobody purchased" not in buying


def test_a_step_that_a_shop_does_not_send_is_not_in_its_funnel() -> None:
    assert "look at a product" in texts(page([a_shop()]))
    till = page([a_shop(sessions_with_detail=0, transactions=2, buying_sessions=2)])
    assert "look at a product" not in texts(till)
    assert "add to the cart" not in texts(till)
    assert "purchase" in texts(till)


def test_a_shop_of_one_day_has_a_page() -> None:
    assert "So far" in page([a_shop(days=1)])


def test_products_are_named_and_names_are_text() -> None:
    html = page([a_shop(product="Mug <script>alert(1)</script>")])
    assert "Mug &lt;script&gt;" in html
    assert "<td>p1" in page([a_shop(product=None)])


def test_shops_stand_apart() -> None:
    html = page([a_shop("north & south"), a_shop("west")])
    assert "<h1>north &amp; south</h1>" in html
    assert html.count("<h2>Traffic</h2>") == 2
    assert "No session yet" in page([])


def test_quality_over_time_is_told() -> None:
    outcomes = [Outcome(WRITTEN, 130, 0, 2, 0), Outcome(WRITTEN + timedelta(hours=1), 128, 3, 1, 0)]
    counts = {"received": 12345, "accepted": 12000, "duplicate": 344, "failed": 1}
    loads = [{"day": date(2026, 2, day), **counts} for day in (14, 15)]
    failed = [{"reason": "not_a_time", "failed": 2, "newest": datetime(2026, 2, 15, 4, 30)}]
    html = page([a_shop()], loads, outcomes, failed)
    assert "128 checks held. Did not hold: 3 critical, 1 warning. Could not be checked: 0." in html
    assert "<td>2026-02-15<td>12,345<td>12,000<td>344<td>1" in html
    assert "<td>not_a_time<td>2<td>2026-02-15 04:30" in html
    assert "Rows not accepted, by day" in html


def test_events_left_out_are_counted_by_reason() -> None:
    excluded = [{"reason": "bot", "events": 7, "newest": datetime(2026, 2, 15, 4, 30)}]
    html = kpis.render([a_shop()], [], [], [], WRITTEN, excluded)
    assert "<td>bot<td>7<td>2026-02-15 04:30" in html


def test_a_day_of_returns_has_a_page() -> None:
    html = page([a_shop(transactions=1, revenue=-40.0)])
    assert "<td>Revenue<td>-280" in html
