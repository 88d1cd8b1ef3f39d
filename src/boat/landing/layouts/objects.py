"""Exports that are JSON objects with lists: an object can contain several events."""

from collections.abc import Mapping
from typing import Any

from boat.events import MISSING_WORDS
from boat.landing.layouts.export import Export, flat
from boat.landing.layouts.tables import GA4_PRODUCT_NAMES, GA4_TYPES
from boat.landing.values import is_one_of, literal, plain_type, trimmed

_CALLS = ("track", "page", "screen", "identify", "group", "alias")
_SEGMENT_PRODUCT_NAMES = {
    **dict.fromkeys(("product_viewed", "viewed_product"), "detail"),
    **dict.fromkeys(("product_added", "added_product"), "add"),
    **dict.fromkeys(("product_removed", "removed_product"), "remove"),
    **dict.fromkeys(("product_clicked", "clicked_product"), "click"),
    **dict.fromkeys(("order_completed", "completed_order"), "purchase"),
    "order_refunded": "refund",
}
_SEGMENT_ORDERS = ("order_completed", "completed_order", "order_refunded")
_SEGMENT_TYPES = {
    **_SEGMENT_PRODUCT_NAMES,
    **dict.fromkeys(("products_searched", "searched_products"), "search"),
    "page_call": "pageview",
}

_ECOMMERCE = "com_snowplowanalytics_snowplow_ecommerce"
_SNOWPLOW_TYPES = {
    "page_view": "pageview",
    "transaction_item": "purchase",
    "add_to_cart": "add",
    "remove_from_cart": "remove",
    "site_search": "search",
    "ecommerce_product_view": "detail",
    "ecommerce_add_to_cart": "add",
    "ecommerce_remove_from_cart": "remove",
    "ecommerce_transaction": "purchase",
    "ecommerce_refund": "refund",
    "ecommerce_list_click": "click",
}
_OTTO_TYPES = {"clicks": "detail", "carts": "add", "orders": "purchase"}


def _value(json: str, *path: str) -> str:
    """Return SQL of a value in JSON; null if it is missing, null in JSON or a word for a missing value."""
    value = f"json_extract({json}, {literal('$' + ''.join(f'.{name}' for name in path))})"
    return _known(value)


def _known(value: str) -> str:
    text = f"lower(trim(coalesce({value} ->> '$', '')))"
    return f"case when {is_one_of(text, MISSING_WORDS)} then null else {value} end"


def _parsed(value: str) -> str:
    """Return SQL of JSON that a table may have as JSON text."""
    as_json = f"coalesce(try_cast({value} ->> '$' as json), {value})"
    return f"case when json_type({value}) = 'VARCHAR' then {as_json} else {value} end"


def _object(value: str) -> str:
    """Return SQL of an object in JSON; an empty object if it is another type."""
    return f"case when json_type({value}) = 'OBJECT' then {value} else '{{}}'::json end"


def _list(value: str) -> str:
    """Return SQL of a list of JSON values; a list with a null if it is empty."""
    is_filled = f"json_type({value}) = 'ARRAY' and json_array_length({value}) > 0"
    return f"case when {is_filled} then cast({value} as json[]) else [null::json] end"


def _is_no(kind: str, value: str, column: str, is_needed: bool = False) -> str:
    """Return SQL of the flaw of a value that does not have a JSON type."""
    name = "a list" if kind == "ARRAY" else "an object"
    missing = "'NULL'" if is_needed else literal(kind)
    types = f"coalesce(json_type({value}), {missing})"
    is_other = f"{types} <> {literal(kind)}" + ("" if is_needed else f" and {types} <> 'NULL'")
    flaw = f"to_json(['wrong_type', {literal(column)}, left({value}::varchar, 200), 'is not {name}'])::varchar"
    return f"case when {is_other} then {flaw} end"


def _nth_id(event_id: str) -> str:
    """Return SQL of the id of the nth product of an event."""
    text = f"{event_id} ->> '$'"
    return f"case when n > 1 then to_json({text} || '-' || n) else {event_id} end"


def _expanded(rows: str, objects: str, is_expanded: str) -> str:
    """Return a query of `rows` with a row per value `item` of a list, numbered by `n`; null for an empty list."""
    return f"""select * exclude (items), unnest(items) as item, generate_subscripts(items, 1) as n
        from (select *, case when {is_expanded} then {_list(objects)} else [null::json] end as items from ({rows}))"""


def _query(rows: str, flaw: str, json: str) -> str:
    return f"select record, line, {flaw} as flaw, {json} as json from ({rows})"


def _ga4(rows: str) -> str:
    value = "param -> '$.value'"
    values = ", ".join(
        f"nullif(({value} -> '$.{kind}_value')::varchar, 'null')" for kind in ("string", "int", "float", "double")
    )
    pair = f"to_json(coalesce(param ->> '$.key', ''))::varchar || ':' || coalesce({values}, 'null')"
    pairs = f"list_transform({_list('given')}, lambda param: {pair})"
    events = f"""
        select record, line, json, params_flaw, items,
            case when json_type(given) = 'ARRAY' and json_array_length(given) > 0
                then ('{{' || array_to_string({pairs}, ',') || '}}')::json else '{{}}'::json end as params,
            lower(json ->> '$.event_name') as name, {_object(_parsed("json -> '$.ecommerce'"))} as ecommerce
        from (
            select *, {_is_no("ARRAY", "given", "event_params")} as params_flaw
            from (select *, {_parsed("json -> '$.event_params'")} as given, {_parsed("json -> '$.items'")} as items
                from {rows}))"""
    items = f"select * exclude (items), items as listed from ({events})"
    expanded = _expanded(items, "listed", is_one_of("name", GA4_PRODUCT_NAMES))
    fields = {
        "event_time": "json -> '$.event_timestamp'",
        "event_type": "json ->> '$.event_name'",
        "session_id": _value("params", "ga_session_id"),
        "client_id": f"coalesce({_value('json', 'user_pseudo_id')}, {_value('json', 'user_id')})",
        "url": "params -> '$.page_location'",
        "query": "params -> '$.search_term'",
        "product_id": "item -> '$.item_id'",
        "price": "item -> '$.price'",
        "quantity": "item -> '$.quantity'",
        "transaction_id": f"coalesce({_value('ecommerce', 'transaction_id')}, {_value('params', 'transaction_id')})",
        "tax": f"coalesce({_value('ecommerce', 'tax_value')}, {_value('params', 'tax')})",
        "shipping": f"coalesce({_value('ecommerce', 'shipping_value')}, {_value('params', 'shipping')})",
        "user_id": _value("json", "user_id"),
    }
    base = f"json_merge_patch(json_merge_patch('{{}}', params), {_object('item')})"
    flaw = f"coalesce(params_flaw, {_is_no('ARRAY', 'listed', 'items')})"
    return _query(expanded, flaw, flat(base, fields, ("ga_session_id", "page_location", "search_term", "item_id")))


def _otto(rows: str) -> str:
    listed = f"select *, json -> '$.events' as listed from {rows}"
    expanded = f"""select *, list_transform(case when json_type(listed) = 'ARRAY' then cast(listed as json[]) end,
        lambda each: coalesce(each ->> '$.ts', '')) as times
        from ({_expanded(listed, "listed", "json_array_length(listed) > 0")})"""
    time = "coalesce(item ->> '$.ts', '')"
    # Events with equal times keep the order of the list, because they are on the same line.
    order = f"lpad(cast(n - list_position(times, {time}) as varchar), 4, '0')"
    parts = f"json ->> '$.session', {time}, {order}, item ->> '$.type', item ->> '$.aid'"
    shares_time = f"list_count(list_filter(times, lambda each: each = {time})) > 1"
    fields = {
        "event_id": f"case when {shares_time} then to_json(concat_ws('-', {parts})) end",
        "session_id": "json -> '$.session'",
        "event_time": "item -> '$.ts'",
        "event_type": "item ->> '$.type'",
        "product_id": "item -> '$.aid'",
    }
    filled = f"select * from ({expanded}) where item is not null or json_type(listed) is distinct from 'ARRAY'"
    return _query(filled, _is_no("ARRAY", "listed", "events", is_needed=True), flat("'{}'", fields))


def _segment(rows: str) -> str:
    name = "case when call = 'track' then json ->> '$.event' else call || ' call' end"
    events = f"""
        select *, {_object("given")} as properties, {plain_type(trimmed("name"))} as plain
        from (select *, {name} as name, json -> '$.properties' as given
            from (select *, lower(trim(json ->> '$.type')) as call from {rows}))"""
    products = f"select *, properties -> '$.products' as products from ({events})"
    expanded = _expanded(products, "products", f"coalesce({is_one_of('plain', _SEGMENT_ORDERS)}, false)")
    item = (
        f"(select *, case when item is null and products is null then properties else {_object('item')} end as product"
    )
    rows_of_products = f"{item} from ({expanded}))"
    fields = {
        "event_id": _nth_id(_value("json", "messageId")),
        "event_time": f"coalesce({_value('json', 'timestamp')}, {_value('json', 'originalTimestamp')})",
        "received_at": _value("json", "receivedAt"),
        "event_type": "name",
        "client_id": f"coalesce({_value('json', 'anonymousId')}, {_value('json', 'userId')})",
        "session_id": _value("properties", "session_id"),
        "url": f"coalesce({_value('properties', 'url')}, {_value('json', 'context', 'page', 'url')})",
        "query": "properties -> '$.query'",
        "product_id": f"coalesce({_value('product', 'product_id')}, {_value('product', 'id')}, "
        f"{_value('product', 'sku')})",
        "price": "product -> '$.price'",
        "quantity": "product -> '$.quantity'",
        "transaction_id": f"coalesce({_value('properties', 'order_id')}, {_value('properties', 'orderId')})",
        "user_id": _value("json", "userId"),
    }
    base = "json_merge_patch(json_merge_patch('{}', properties), product)"
    flaw = f"""coalesce({_is_no("OBJECT", "given", "properties")},
        case when {is_one_of("plain", _SEGMENT_ORDERS)} then {_is_no("ARRAY", "products", "products")} end)"""
    return _query(rows_of_products, flaw, flat(base, fields, ("products", "order_id", "orderId", "id")))


def _of_schema(name: str) -> str:
    """Return SQL of the column of a Snowplow schema: names end with its version, in one of several notations."""
    keys = f"list_filter(json_keys(json), lambda key: starts_with(lower(key), {literal(name + '_1')}))"
    return _parsed(f"json_extract(json, '/' || ({keys})[1])")


def _snowplow(rows: str) -> str:
    parts = {
        "action": f"{_of_schema(f'unstruct_event_{_ECOMMERCE}_snowplow_ecommerce_action')} ->> '$.type'",
        "listed": _of_schema(f"contexts_{_ECOMMERCE}_product"),
        "orders": _of_schema(f"contexts_{_ECOMMERCE}_transaction"),
        "refunds": _of_schema(f"contexts_{_ECOMMERCE}_refund"),
        "search": _of_schema("unstruct_event_com_snowplowanalytics_snowplow_site_search"),
        "added": _of_schema("unstruct_event_com_snowplowanalytics_snowplow_add_to_cart"),
        "removed": _of_schema("unstruct_event_com_snowplowanalytics_snowplow_remove_from_cart"),
    }
    named = {
        "name": """case when action is not null then 'ecommerce_' || action
            else coalesce(nullif(nullif(json ->> '$.event_name', ''), 'event'), json ->> '$.event') end""",
        "ordered": f"{_object('''coalesce(orders -> '$[0]', refunds -> '$[0]')''')}",
        "old": _object("coalesce(added, removed)"),
    }
    read = f"select *, {', '.join(f'{sql} as {name}' for name, sql in parts.items())} from {rows}"
    events = f"select *, {', '.join(f'{sql} as {name}' for name, sql in named.items())} from ({read})"
    expanded = _expanded(events, "listed", "action is not null")
    terms = "case when json_type(search -> '$.terms') = 'ARRAY' then array_to_string(search ->> '$.terms[*]', ' ') "
    is_item = "lower(name) = 'transaction_item'"

    def of_product(ecommerce: str, item: str, *old: str) -> str:
        others = ", ".join(_value("old", name) for name in old)
        return f"case when action is not null then {_value('item', ecommerce)} when {is_item} " + (
            f"then {_value('json', item)} else coalesce({others}) end"
        )

    fields = {
        "event_id": _nth_id(_value("json", "event_id")),
        "event_time": f"coalesce({_value('json', 'derived_tstamp')}, {_value('json', 'collector_tstamp')})",
        "received_at": _value("json", "collector_tstamp"),
        "event_type": "name",
        "session_id": _value("json", "domain_sessionid"),
        "client_id": f"coalesce({_value('json', 'domain_userid')}, {_value('json', 'user_id')})",
        "url": "json -> '$.page_url'",
        "query": f"{terms} else search ->> '$.terms' end",
        "product_id": of_product("id", "ti_sku", "sku"),
        "price": of_product("price", "ti_price", "unit_price", "unitPrice"),
        "quantity": of_product("quantity", "ti_quantity", "quantity"),
        "transaction_id": f"coalesce({_value('ordered', 'transaction_id')}, case when {is_item} "
        f"then coalesce({_value('json', 'ti_orderid')}, {_value('json', 'tr_orderid')}) end)",
        "tax": _value("ordered", "tax"),
        "shipping": _value("ordered", "shipping"),
        "user_id": _value("json", "user_id"),
        "revenue": _value("ordered", "revenue"),
    }
    base = f"json_merge_patch('{{}}', {_object('item')})"
    return _query(expanded, f"{_is_no('ARRAY', 'listed', 'product')}", flat(base, fields, ("id",)))


def _is_segment_call(row: Mapping[str, Any]) -> bool:
    is_call = str(row.get("type")).lower() in _CALLS
    return is_call and any(isinstance(row.get(name), dict) for name in ("properties", "traits", "context"))


def _is_otto_session(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("events"), list)


OBJECTS = (
    Export(
        "ga4",
        ("event_name", "event_timestamp", "event_params|items"),
        objects=_ga4,
        types=GA4_TYPES,
        has_other_types=True,
    ),
    Export("otto", ("session", "events"), objects=_otto, types=_OTTO_TYPES, is_like=_is_otto_session),
    Export(
        "segment",
        ("type", "anonymousId|userId|messageId|originalTimestamp"),
        objects=_segment,
        types=_SEGMENT_TYPES,
        has_other_types=True,
        is_like=_is_segment_call,
    ),
    Export(
        "snowplow",
        ("event|event_name", "derived_tstamp|collector_tstamp", "domain_userid|domain_sessionid"),
        without=("product_id", "item_id", "sku"),  # a table derived from it has these columns, and its own types
        objects=_snowplow,
        types=_SNOWPLOW_TYPES,
        has_other_types=True,
    ),
)
