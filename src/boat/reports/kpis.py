"""The KPI report: one page from the KPI marts, without scripts or external files, so that it can be archived.

Without a flow: `boat.reports.kpis.write(warehouse, folder)`.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from boat import quality
from boat.quality import Outcome
from boat.render.charts import bars_svg, funnel_svg, lines_svg
from boat.render.page import page
from boat.warehouse import Transaction, Warehouse

PAGE = "kpis.html"
DAYS, PRODUCTS, HOURS = 60, 10, 7 * 24
"""Days in the pictures, products in the table, and hours in the hourly picture."""
FUNNEL_DAYS = 28

Row = Mapping[str, Any]

_SEVERITIES = ("#b3261e", "#d9a441", "#8a97a5")
_PRODUCTS = f"""
with newest as (
    select shop, max(day) as day from marts.kpi_daily group by shop
),
sold as (
    select
        events.shop,
        events.product_id,
        count(case when events.event_type = 'detail' then 1 end) as views,
        count(case when events.event_type = 'add' then 1 end) as adds,
        coalesce(sum(case when events.event_type = 'purchase' then coalesce(events.quantity, 1) end), 0) as pieces,
        coalesce(
            sum(case when events.event_type = 'purchase' then events.price * coalesce(events.quantity, 1) end), 0
        ) as revenue
    from marts.fct_session_events as events
    inner join newest on events.shop = newest.shop
    where events.product_id is not null and cast(events.event_time as date) > newest.day - {FUNNEL_DAYS}
    group by events.shop, events.product_id
    qualify row_number() over (
        partition by events.shop order by revenue desc, pieces desc, views desc, events.product_id
    ) <= {PRODUCTS}
)
select sold.*, products.product_name
from sold
left join marts.dim_products as products on sold.shop = products.shop and sold.product_id = products.product_id
order by sold.shop, revenue desc, pieces desc, views desc, sold.product_id
"""
_LOADS = f"""
select
    cast(loaded_at as date) as day,
    sum(received) as received,
    sum(accepted) as accepted,
    sum(duplicate) as duplicate,
    sum(failed) as failed
from raw.loads
group by cast(loaded_at as date)
order by day desc
limit {DAYS}
"""

_FAILED = """
select reason, count(*) as failed, max(received_at) as newest
from raw.dead_letters
group by reason
order by failed desc, reason
"""

_EXCLUDED = """
select reason, events, newest_load_at as newest
from staging.stg_events_excluded
order by events desc, reason
"""


@dataclass(frozen=True)
class ShopFigures:
    """The KPIs of one shop. Rows are ascending in time.

    Attributes:
        shop: Name of the shop.
        days: Rows of `marts.kpi_daily`, one for each day. A day without sessions has zeros.
        hours: Rows of `marts.kpi_hourly` of the last week.
        volume: Rows of `marts.daily_volume`.
        products: The best-selling products of the last weeks, best first.
    """

    shop: str
    days: Sequence[Row]
    hours: Sequence[Row]
    volume: Sequence[Row]
    products: Sequence[Row]


def write(warehouse: Warehouse, folder: Path) -> Path:
    """Write the page with the KPIs of every shop to `folder/kpis.html`, and return that path.

    Args:
        warehouse: Warehouse with the marts.
        folder: The reports folder. The page includes the results that `boat.quality` has written there.
    """
    with warehouse.transaction() as transaction:
        shops = _read(transaction)
        loads = transaction.query(_LOADS).to_pylist()[::-1]
        failed = transaction.query(_FAILED).to_pylist()
        excluded = transaction.query(_EXCLUDED).to_pylist()
    html = render(shops, loads, failed, quality.history(folder), datetime.now(UTC), excluded)
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / PAGE, folder / f"{PAGE}.tmp"
    unfinished.write_text(html, encoding="utf-8")
    unfinished.replace(path)  # a reader never sees half a page
    return path


def render(
    shops: Sequence[ShopFigures],
    loads: Sequence[Row],
    failed: Sequence[Row],
    outcomes: Sequence[Outcome],
    written_at: datetime,
    excluded: Sequence[Row] = (),
) -> str:
    """Return the page as an HTML document."""
    parts = [
        f'<h1>KPI report</h1><p class="dim">Written {written_at:%Y-%m-%d %H:%M} UTC. Days and hours are UTC. A '
        "session counts at its start. Dotted lines lead to values that may still change.</p>"
    ]
    for shop in shops:
        parts.append(f"<h1>{escape(shop.shop)}</h1>" if len(shops) > 1 else "")
        parts += [_last_week(shop), _traffic(shop), _funnel(shop), _money(shop), _top_products(shop), _volume(shop)]
    if not shops:
        parts.append("<p>No sessions yet.</p>")
    return page("KPI report", "".join([*parts, _quality(loads, failed, outcomes, excluded)]))


def _read(transaction: Transaction) -> list[ShopFigures]:
    def by_shop(sql: str) -> dict[str, list[Row]]:
        rows: dict[str, list[Row]] = {}
        for row in transaction.query(sql).to_pylist():
            rows.setdefault(row["shop"], []).append(row)
        return rows

    newest = "qualify {column} > max({column}) over (partition by shop) - {span} order by shop, {column}"
    days = by_shop(f"select * from marts.kpi_daily {newest.format(column='day', span=DAYS)}")
    hours = by_shop(
        f"select * from marts.kpi_hourly {newest.format(column='hour', span=f'''interval '{HOURS} hours' ''')}"
    )
    volume = by_shop("select * from marts.daily_volume order by shop, day")
    products = by_shop(_PRODUCTS)
    return [
        ShopFigures(shop, _every_day(rows), hours[shop], volume.get(shop, []), products.get(shop, []))
        for shop, rows in days.items()
    ]


def _every_day(rows: Sequence[Row]) -> list[Row]:
    """Add rows of zeros for days without sessions."""
    row_of = {row["day"]: row for row in rows}
    empty: dict[str, Any] = {**dict.fromkeys(rows[0], 0), "conversion_rate": math.nan}
    first, newest = rows[0]["day"], rows[-1]["day"]
    every = [first + timedelta(days=number) for number in range((newest - first).days + 1)]
    return [row_of.get(day, {**empty, "day": day}) for day in every]


def _last_week(shop: ShopFigures) -> str:
    """Compare the last complete week with the week before."""
    complete = shop.days[:-1] or shop.days
    week, before = complete[-7:], complete[-14:-7]
    names = {
        "Sessions": "sessions",
        "New clients": "new_clients",
        "Product views": "details",
        "Adds to the cart": "adds",
        "Orders": "transactions",
        "Revenue": "revenue",
    }
    rows = [
        [name, *_compared(_total(week, column), _total(before, column))]
        for name, column in names.items()
        if _total(shop.days, column)  # not every shop sends client ids or prices
    ]
    rows.append(["Conversion", *_compared(_conversion(week), _conversion(before), percent=True)])
    span = f"{week[0]['day']:%-d %b} to {week[-1]['day']:%-d %b %Y}"
    head = ["", f"Last {len(week)} complete days" if shop.days[:-1] else "So far", "The 7 days before", "Change"]
    return f"<h2>{span}</h2>" + _table(head, rows)


def _compared(now: float, before: float, percent: bool = False) -> list[str]:
    change = f"{now / before - 1:+.1%}" if before > 0 and not math.isnan(now) else ""
    return [_figure(now, percent), _figure(before, percent) if before else "", change]


def _traffic(shop: ShopFigures) -> str:
    days = _column(shop.days, "day")
    series = {"sessions": _column(shop.days, "sessions")}
    if any(row["active_clients"] for row in shop.days):
        series |= {"active clients": _column(shop.days, "active_clients")}
        series |= {"new clients": _column(shop.days, "new_clients")}
    hours = _every_hour(shop.hours)
    return (
        "<h2>Traffic</h2>"
        + _picture("Sessions by day", lines_svg(days, series, open_end=True))
        + _picture(
            "Sessions by hour, last week",
            lines_svg(list(hours), {"sessions": list(hours.values())}),
        )
    )


def _every_hour(rows: Sequence[Row]) -> dict[datetime, float]:
    sessions = {row["hour"]: row["sessions"] for row in rows}
    first, newest = rows[0]["hour"], rows[-1]["hour"]
    count = int((newest - first) / timedelta(hours=1)) + 1
    return {hour: sessions.get(hour, 0) for hour in (first + timedelta(hours=number) for number in range(count))}


def _funnel(shop: ShopFigures) -> str:
    recent = shop.days[-FUNNEL_DAYS:]
    steps = {
        "all sessions": "sessions",
        "with a product view": "sessions_with_detail",
        "with an add to cart": "sessions_with_add",
        "with a purchase": "buying_sessions",
    }
    # A shop may send purchases but no product views: its funnel has no such step.
    counts = {name: int(_total(recent, column)) for name, column in steps.items() if _total(shop.days, column)}
    picture = funnel_svg(counts)
    return f"<h2>Funnel, last {_days(recent)}</h2>" + _picture("Sessions by the steps they reach", picture)


def _money(shop: ShopFigures) -> str:
    if not _total(shop.days, "transactions"):
        return "<h2>Conversion and revenue</h2><p>There were no purchases in this period.</p>"
    days = _column(shop.days, "day")
    shares = {"conversion": _column(shop.days, "conversion_rate")}
    amounts = {
        name: _column(shop.days, name)
        for name in ("revenue", "tax", "shipping")
        if name == "revenue" or _total(shop.days, name)
    }
    revenue = (
        _picture("Revenue by day", bars_svg(days, amounts))
        if _total(shop.days, "revenue")
        else "<p>The purchases have no prices.</p>"
    )
    return (
        "<h2>Conversion</h2>"
        + _picture("Share of sessions with a purchase, by day", lines_svg(days, shares, percent=True, open_end=True))
        + f"<h2>Revenue</h2>{revenue}"
    )


def _top_products(shop: ShopFigures) -> str:
    columns = {"Views": "views", "Adds to the cart": "adds", "Sold": "pieces", "Revenue": "revenue"}
    present = {head: column for head, column in columns.items() if _total(shop.products, column)}
    rows = [
        [str(row["product_name"] or row["product_id"]), *(_figure(row[column]) for column in present.values())]
        for row in shop.products
    ]
    head = ["Product", *present]
    title = f"Top products, last {_days(shop.days[-FUNNEL_DAYS:])}"
    return f"<h2>{title}</h2>" + (_table(head, rows) if rows else "<p>There were no product views.</p>")


def _volume(shop: ShopFigures) -> str:
    if not shop.volume:
        return ""
    series = {
        "events": _column(shop.volume, "events"),
        "expected": [math.nan if row["expected_events"] is None else row["expected_events"] for row in shop.volume],
    }
    return "<h2>Events</h2>" + _picture("Events by day", lines_svg(_column(shop.volume, "day"), series, open_end=True))


def _quality(loads: Sequence[Row], failed: Sequence[Row], outcomes: Sequence[Outcome], excluded: Sequence[Row]) -> str:
    parts = ["<h2>Data quality</h2>"]
    if outcomes:
        times = [outcome.checked_at for outcome in outcomes]
        series = {
            "critical": [float(outcome.critical) for outcome in outcomes],
            "warning": [float(outcome.warning) for outcome in outcomes],
            "not checked": [float(outcome.unknown) for outcome in outcomes],
        }
        newest = outcomes[-1]
        parts.append(
            f"<p>Last check at {newest.checked_at:%Y-%m-%d %H:%M} UTC. Expectations passed: {newest.passed:,}. Failed: "
            f"{newest.critical:,} critical, {newest.warning:,} warning. Not checked: {newest.unknown:,}.</p>"
        )
        parts.append(_picture("Failed expectations by check", lines_svg(times, series, colours=_SEVERITIES)))
    rows = [
        [f"{row['day']:%Y-%m-%d}", *(_figure(row[name]) for name in ("received", "accepted", "duplicate", "failed"))]
        for row in loads[:-15:-1]
    ]
    if rows:
        parts.append("<h2>Rows loaded</h2>" + _table(["Day", "Received", "Accepted", "Duplicate", "Failed"], rows))
    if len(loads) > 1 and (_total(loads, "duplicate") or _total(loads, "failed")):
        rejected = {name: _column(loads, name) for name in ("duplicate", "failed")}
        parts.append(_picture("Rows not accepted, by day", bars_svg(_column(loads, "day"), rejected)))
    for title, counted, name in (
        ("Dead letters", failed, "failed"),
        ("Events excluded from sessions and KPIs", excluded, "events"),
    ):
        reasons = [[row["reason"], _figure(row[name]), _minute(row["newest"])] for row in counted]
        if reasons:
            parts.append(f"<h2>{title}</h2>" + _table(["Reason", "Rows", "Newest (UTC)"], reasons))
    return "".join(parts)


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _total(rows: Sequence[Row], column: str) -> float:
    return float(sum(row[column] for row in rows))


def _conversion(rows: Sequence[Row]) -> float:
    sessions = _total(rows, "sessions")
    return _total(rows, "buying_sessions") / sessions if sessions else 0.0


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _days(rows: Sequence[Row]) -> str:
    return f"{len(rows)} days" if len(rows) > 1 else "day"


def _figure(value: float, percent: bool = False) -> str:
    if percent:
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in rows)
    return f'<table class="figures"><tr>{titles}{body}</table>'


def _picture(title: str, svg: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    image = f'<img width="100%" alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'
    return f'<p class="dim">{escape(title)}</p>{image}'
