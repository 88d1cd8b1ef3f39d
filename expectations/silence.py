"""The query that finds a shop which went silent. It needs no Great Expectations: it also runs when nothing is new."""

from datetime import UTC, datetime, timedelta

_MIN_RECEIVED = 400
"""Events received in 8 days. A shop with fewer may have a day without events."""


def query(shop: str, table: str = "raw.events") -> str:
    """Return the query. It has a row if the shop is silent. Events of files have no receipt and are ignored.

    Args:
        shop: Shop of the platform, as an SQL literal or parameter.
        table: The raw log.
    """
    now = datetime.now(UTC)
    today = datetime(now.year, now.month, now.day)
    return f"""
select shop, max(received_at) as newest_event from {table}
where received_at is not null and shop = {shop}
group by shop
having max(received_at) < timestamp '{today - timedelta(days=1)}'
    and count(case when received_at >= timestamp '{today - timedelta(days=8)}' then 1 end) >= {_MIN_RECEIVED}
"""
