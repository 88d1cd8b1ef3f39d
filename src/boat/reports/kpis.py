"""The KPI report: one page from the KPI marts, without script, to be read by people and kept.

The same without a flow: `boat.reports.kpis.write(warehouse, folder)`.
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
"""Days with a point of their own, products in the table, hours of the hourly picture."""
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
    """What is shown of one shop; rows are ascending in time.

    Attributes:
        shop: Its name.
        days: Rows of `marts.kpi_daily`, one a day, days without a session as zeros.
        hours: Rows of `marts.kpi_hourly` of the last week.
        volume: Rows of `marts.daily_volume`.
        products: The best-selling ones of the last weeks, best first.
    """

    shop: str
    days: Sequence[Row]
    hours: Sequence[Row]
    volume: Sequence[Row]
    products: Sequence[Row]


def write(warehouse: Warehouse, folder: Path) -> Path:
    """Write the page about every shop in the warehouse to `folder/kpis.html`; returns that path.

    Args:
        warehouse: Where dbt has built the marts.
        folder: The reports folder; what `boat.quality` left there is shown too.
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
    unfinished.replace(path)  # nobody reads half a page
    return path


def render(
    shops: Sequence[ShopFigures],
    loads: Sequence[Row],
    failed: Sequence[Row],
    outcomes: Sequence[Outcome],
    written_at: datetime,
    excluded: Sequence[Row] = (),
) -> str:
    """The page as a whole HTML document."""
    parts = [
        f'<h1>Shop figures</h1><p class="dim">Written {written_at:%Y-%m-%d %H:%M} UTC. Days and hours are UTC; a '
        "session counts when it began. What is dotted may still change.</p>"
    ]
    for shop in shops:
        parts.append(f"<h1>{escape(shop.shop)}</h1>" if len(shops) > 1 else "")
        parts += [_lately(shop), _traffic(shop), _funnel(shop), _money(shop), _top_products(shop), _volume(shop)]
    if not shops:
        parts.append("<p>No session yet.</p>")
    return page("Shop figures", "".join([*parts, _quality(loads, failed, outcomes, excluded)]))


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
    """With zeros for the days without a session."""
    known = {row["day"]: row for row in rows}
    empty: dict[str, Any] = {**dict.fromkeys(rows[0], 0), "conversion_rate": math.nan}
    first, newest = rows[0]["day"], rows[-1]["day"]
    every = [first + timedelta(days=number) for number in range((newest - first).days + 1)]
    return [known.get(day, {**empty, "day": day}) for day in every]


def _lately(shop: ShopFigures) -> str:
    """The last complete week beside the one before."""
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
        [name, *_beside(_total(week, column), _total(before, column))]
        for name, column in names.items()
        if _total(shop.days, column)  # not every shop knows its clients, or sends prices
    ]
    rows.append(["Conversion", *_beside(_conversion(week), _conversion(before), percent=True)])
    span = f"{week[0]['day']:%-d %b} to {week[-1]['day']:%-d %b %Y}"
    head = ["", f"Last {len(week)} complete days" if shop.days[:-1] else "So far", "The 7 before", "Change"]
    return f"<h2>{span}</h2>" + _table(head, rows)


def _beside(now: float, before: float, percent: bool = False) -> list[str]:
    known = before > 0 and not math.isnan(now)
    change = f"{now / before - 1:+.1%}" if known else ""
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
    known = {row["hour"]: row["sessions"] for row in rows}
    first, newest = rows[0]["hour"], rows[-1]["hour"]
    count = int((newest - first) / timedelta(hours=1)) + 1
    return {hour: known.get(hour, 0) for hour in (first + timedelta(hours=number) for number in range(count))}


def _funnel(shop: ShopFigures) -> str:
    recent = shop.days[-FUNNEL_DAYS:]
    steps = {
        "sessions": "sessions",
        "look at a product": "sessions_with_detail",
        "add to the cart": "sessions_with_add",
        "purchase": "buying_sessions",
    }
    # A shop that sends no product views has sessions that purchase all the same.
    taken = {name: int(_total(recent, column)) for name, column in steps.items() if _total(shop.days, column)}
    picture = funnel_svg(taken)
    return f"<h2>Funnel, last {_days(recent)}</h2>" + _picture("Sessions that come so far", picture)


def _money(shop: ShopFigures) -> str:
    if not _total(shop.days, "transactions"):
        return "<h2>Conversion and revenue</h2><p>Nobody purchased in this time.</p>"
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
        else "<p>The purchases carry no prices.</p>"
    )
    return (
        "<h2>Conversion</h2>"
        + _picture("Share of sessions that purchase, by day", lines_svg(days, shares, percent=True, open_end=True))
        + f"<h2>Revenue</h2>{revenue}"
    )


def _top_products(shop: ShopFigures) -> str:
    columns = {"Views": "views", "Adds": "adds", "Sold": "pieces", "Revenue": "revenue"}
    shown = {head: column for head, column in columns.items() if _total(shop.products, column)}
    rows = [
        [str(row["product_name"] or row["product_id"]), *(_figure(row[column]) for column in shown.values())]
        for row in shop.products
    ]
    head = ["Product", *shown]
    title = f"Top products, last {_days(shop.days[-FUNNEL_DAYS:])}"
    return f"<h2>{title}</h2>" + (_table(head, rows) if rows else "<p>No product was looked at.</p>")


def _volume(shop: ShopFigures) -> str:
    if not shop.volume:
        return ""
    series = {
        "events": _column(shop.volume, "events"),
        "expected from the days before": [
            math.nan if row["expected_events"] is None else row["expected_events"] for row in shop.volume
        ],
    }
    return "<h2>Events</h2>" + _picture("Events by day", lines_svg(_column(shop.volume, "day"), series, open_end=True))


def _quality(loads: Sequence[Row], failed: Sequence[Row], outcomes: Sequence[Outcome], excluded: Sequence[Row]) -> str:
    parts = ["<h2>Data quality</h2>"]
    if outcomes:
        times = [outcome.checked_at for outcome in outcomes]
        series = {
            "critical": [float(outcome.critical) for outcome in outcomes],
            "warning": [float(outcome.warning) for outcome in outcomes],
            "could not be checked": [float(outcome.unknown) for outcome in outcomes],
        }
        newest = outcomes[-1]
        parts.append(
            f"<p>At {newest.checked_at:%Y-%m-%d %H:%M} UTC {newest.passed:,} checks held. Did not hold: "
            f"{newest.critical:,} critical, {newest.warning:,} warning. Could not be checked: {newest.unknown:,}.</p>"
        )
        parts.append(_picture("Failed checks by run", lines_svg(times, series, colours=_SEVERITIES)))
    rows = [
        [f"{row['day']:%Y-%m-%d}", *(_figure(row[name]) for name in ("received", "accepted", "duplicate", "failed"))]
        for row in loads[:-15:-1]
    ]
    if rows:
        parts.append("<h2>Rows loaded</h2>" + _table(["Day", "Received", "Accepted", "Duplicate", "Failed"], rows))
    if len(loads) > 1 and (_total(loads, "duplicate") or _total(loads, "failed")):
        apart = {name: _column(loads, name) for name in ("duplicate", "failed")}
        parts.append(_picture("Rows not accepted, by day", bars_svg(_column(loads, "day"), apart)))
    for title, counted, name in (
        ("Rows that failed", failed, "failed"),
        ("Events in the raw log that are in no session and no figure", excluded, "events"),
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
