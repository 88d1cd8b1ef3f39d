"""Exports that are tables: a line is an event or a product."""

from boat.events import TYPE_NAMES
from boat.landing.layouts.export import Export, Unwanted

GA4_TYPES = {
    "page_view": "pageview",
    "screen_view": "pageview",
    "view_item": "detail",
    "add_to_cart": "add",
    "remove_from_cart": "remove",
    "purchase": "purchase",
    "ecommerce_purchase": "purchase",
    "refund": "refund",
    "select_item": "click",
    "search": "search",
    "view_search_results": "search",
}
"""GA4's names. `click` is not included: it is a click on a link to another site."""
GA4_PRODUCT_NAMES = tuple(name for name, meant in GA4_TYPES.items() if meant not in {"pageview", "search"})

START_WEEK = "2017-01-01"
"""The Sunday on which the orders of Instacart start, because the publisher gives no dates."""

_TAOBAO = ("user_id", "item_id", "category_id", "behavior_type", "timestamp")
_TMALL = ("user_id", "item_id", "cat_id", "seller_id", "brand_id", "time_stamp", "action_type")


def _known(column: str) -> str:
    """Return SQL of a column of Diginetica; `NA` is a missing value."""
    return f"nullif({{{column}}}, 'NA')"


def _unless_zero(column: str) -> str:
    """Return SQL of a number of YooChoose; 0 is a missing value."""
    return f"case when try_cast({{{column}}} as double) = 0 then null else {{{column}}} end"


_DIGINETICA_TIME = """case
    when try_cast({timeframe} as bigint) between 0 and 1000000000000
        and try_cast({eventdate} as date) between date '1900-01-01' and date '2999-12-31'
        then cast(try_cast({eventdate} as timestamp) + to_milliseconds(try_cast({timeframe} as bigint)) as varchar)
    else {eventdate} || ' + ' || {timeframe} || ' ms' end"""
_DIGINETICA = {
    "session_id": _known("sessionId"),
    "client_id": _known("userId"),
    "event_time": _DIGINETICA_TIME,
}
_SESSION = "sessionId|session_id"
_SEARCH_WORDS = _known("searchstring.tokens")

_ORDER_TIMES = f"""(
    with orders as (
        select order_id, user_id, try_cast(order_number as integer) as number,
            case when try_cast(order_dow as integer) between 0 and 6 then try_cast(order_dow as integer) end as weekday,
            case when try_cast(order_hour_of_day as integer) between 0 and 23
                then try_cast(order_hour_of_day as integer) end as hour,
            case when coalesce(lower(trim(days_since_prior_order)), '') in ('', 'nan') then 0
                when try_cast(days_since_prior_order as double) between 0 and 366
                    then cast(try_cast(days_since_prior_order as double) as integer) end as days
        from {{companion}}
        qualify row_number() over (partition by order_id) = 1),
    placed as (
        select *, sum(days) over user_orders as passed, first_value(weekday) over user_orders as first_weekday,
            bool_and(days is not null) over user_orders as is_counted
        from orders
        window user_orders as (partition by user_id order by number rows unbounded preceding))
    select lines.*, placed.user_id as order_user, placed.order_id is not null as has_order,
        case when placed.is_counted then cast(timestamp '{START_WEEK}'
            + to_days(cast(first_weekday + passed + ((weekday - first_weekday - passed) % 7 + 7) % 7 as integer))
            + to_hours(hour)
            + to_seconds(greatest(coalesce(try_cast({{add_to_cart_order}} as integer), 1), 1) - 1) as varchar)
            end as order_time
    from landing_rows as lines
    left join placed on placed.order_id = {{order_id}}
    order by record)"""

TABLES = (
    Export("rees46", ("event_time", "event_type", "product_id", "category_code", "user_id", "user_session")),
    Export("retailrocket", ("timestamp", "visitorid", "event", "itemid", "transactionid")),
    Export(
        "ga4",
        ("event_name", "event_timestamp", "user_pseudo_id"),
        types=GA4_TYPES | {name: meant for name, meant in TYPE_NAMES.items() if meant in {"pageview", "search"}},
        types_of_products=tuple(name for name in TYPE_NAMES if name not in GA4_TYPES),
        has_other_types=True,
        renamed={"tax_value": "tax", "shipping_value": "shipping"},
    ),
    Export(
        "hm",
        ("t_dat", "customer_id", "article_id"),
        fields={
            "event_time": "{t_dat}",
            "event_type": "'purchase'",
            "client_id": "{customer_id}",
            "product_id": "{article_id}",
            "price": "{price}",
            "quantity": "'1'",
        },
    ),
    Export(
        "hm",
        ("article_id", "prod_name", "product_code"),
        kind="catalogue",
        stem="articles",
        fields={
            "product_id": "{article_id}",
            "product_name": "{prod_name}",
            "category": "coalesce({product_group_name}, {index_group_name})",
        },
    ),
    Export(
        "instacart",
        ("order_id", "product_id", "add_to_cart_order", "reordered"),
        source=_ORDER_TIMES,
        companion="orders",
        fields={
            "event_time": "order_time",
            "event_type": "'purchase'",
            "client_id": "order_user",
            "product_id": "{product_id}",
        },
        extras={"transaction_id": "{order_id}", "add_to_cart_order": "{add_to_cart_order}"},
    ),
    Export(
        "instacart",
        ("order_id", "user_id", "order_number", "order_dow", "order_hour_of_day", "days_since_prior_order"),
        kind="orders",
        stem="orders",
    ),
    Export(
        "instacart",
        ("product_id", "product_name", "aisle_id", "department_id"),
        kind="catalogue",
        stem="products",
        fields={"product_id": "{product_id}", "product_name": "{product_name}", "category": "{aisle_id}"},
    ),
    Export(
        "diginetica",
        (_SESSION, "itemId", "timeframe", "eventdate", "ordernumber"),
        fields={**_DIGINETICA, "event_type": "'purchase'", "product_id": _known("itemId")},
        extras={"transaction_id": _known("ordernumber")},
    ),
    Export(
        "diginetica",
        (_SESSION, "itemId", "timeframe", "eventdate"),
        fields={**_DIGINETICA, "event_type": "'detail'", "product_id": _known("itemId")},
    ),
    Export(
        "diginetica",
        ("queryId", _SESSION, "timeframe", "eventdate", "searchstring.tokens"),
        fields={
            **_DIGINETICA,
            "event_type": f"case when coalesce({_SEARCH_WORDS}, '') = '' then 'pageview' else 'search' end",
            "query": _SEARCH_WORDS,
        },
    ),
    Export(
        "diginetica",
        ("itemId", "pricelog2", "product.name.tokens"),
        kind="catalogue",
        stem="products",
        fields={
            "product_id": _known("itemId"),
            "price": f"coalesce(cast(pow(2, try_cast({_known('pricelog2')} as double)) as varchar), "
            f"{_known('pricelog2')})",
        },
    ),
    Export(
        "yoochoose",
        ("session_id|session", "timestamp", "item_id|item", "category"),
        positions=("session_id", "timestamp", "item_id", "category"),
        stem=r"yoochoose-(clicks|test)",
        fields={
            "session_id": "{session_id}",
            "event_time": "{timestamp}",
            "event_type": "'detail'",
            "product_id": "{item_id}",
        },
    ),
    Export(
        "yoochoose",
        ("session_id|session", "timestamp", "item_id|item", "price", "quantity"),
        positions=("session_id", "timestamp", "item_id", "price", "quantity"),
        stem=r"yoochoose-buys",
        fields={
            "session_id": "{session_id}",
            "event_time": "{timestamp}",
            "event_type": "'purchase'",
            "product_id": "{item_id}",
            "price": _unless_zero("price"),
            "quantity": _unless_zero("quantity"),
        },
    ),
    Export(
        "taobao",
        ("user_id", "item_id", "category_id", "behavior_type|behavior", "timestamp"),
        positions=_TAOBAO,
        stem="userbehavior",
        fields={
            "client_id": "{user_id}",
            "event_time": "{timestamp}",
            "event_type": "{behavior_type}",
            "product_id": "{item_id}",
        },
        types={"pv": "detail", "buy": "purchase", "cart": "add"},
    ),
    Export(
        "tmall",
        ("user_id", "item_id", "cat_id", "seller_id", "time_stamp", "action_type"),
        positions=_TMALL,
        stem=r"user_log_format\d",
        fields={
            "client_id": "{user_id}",
            "event_time": "case when regexp_full_match({time_stamp}, '\\d{3,4}') then '2014-' || "
            "left(lpad({time_stamp}, 4, '0'), 2) || '-' || right({time_stamp}, 2) else {time_stamp} end",
            "event_type": "{action_type}",
            "product_id": "{item_id}",
        },
        types={"0": "detail", "1": "add", "2": "purchase", "3": "fav"},
    ),
)

UNWANTED = (
    Unwanted("retailrocket", ("timestamp", "itemid", "property", "value"), "contains properties of items, no events"),
    Unwanted("retailrocket", ("categoryid", "parentid"), "contains a tree of categories, no events", "category_tree"),
    Unwanted("hm", ("customer_id", "club_member_status"), "contains customers, no events"),
    Unwanted("hm", ("customer_id", "prediction"), "is a form for predictions, without events", "sample_submission"),
    Unwanted("instacart", ("aisle_id", "aisle"), "contains names of aisles, no events", "aisles"),
    Unwanted("instacart", ("department_id", "department"), "contains names of departments, no events", "departments"),
    Unwanted("instacart", ("order_id", "products"), "is a form for predictions, without events", "sample_submission"),
    Unwanted(
        "diginetica", ("queryId", "timeframe", "itemId"), "contains clicks without a session or date", "train-clicks"
    ),
    Unwanted("diginetica", ("itemId", "categoryId"), "contains categories of items, no events", "product-categories"),
    Unwanted("tmall", ("user_id", "age_range", "gender"), "contains customers, no events", r"user_info_format\d"),
    Unwanted(
        "tmall", ("user_id", "merchant_id"), "is a form for predictions, without events", r"(train|test)_format\d"
    ),
)
