"""SQL that types the rows of `boat.landing.rows`, and finds the flaw of each bad row."""

from collections.abc import Callable, Iterable, Mapping

from boat.events import (
    AMOUNTS,
    CLOCK_AHEAD,
    CLOCK_LATE,
    DEFAULT_SHOP,
    DEVICE_TIME,
    EARLIEST,
    EVENT_TYPES,
    MAX_AHEAD,
    MAX_PRICE,
    MAX_QUANTITY,
    ORDER_NUMBER,
    PRODUCT_EVENT_TYPES,
    REFUND,
    SCHEMA_VERSION,
    TIME_HINT,
    utc_now,
)
from boat.landing import values
from boat.landing.dead_letters import Reason
from boat.landing.rows import flaw_sql
from boat.landing.values import is_one_of, literal

# Content that identifies an event without an id.
_CONTENT = (
    "shop",
    "session_id",
    "client_id",
    "epoch_us(event_time)",
    "event_type",
    "product_id",
    "url",
    "query",
    "price",
    "quantity",
)
_IDS = ("event_id", "shop", "session_id", "client_id", "product_id")
_NUMBERS = {"price": MAX_PRICE, "quantity": MAX_QUANTITY}
_TIMES = ("event_time", "received_at")
_ORDER = ORDER_NUMBER.name


def events(rows: str) -> str:
    """Return the query for `line`, `flaw`, `has_id` and the typed columns of `raw.events` up to `extra`.

    Args:
        rows: A query of texts.
    """
    return f"""
        with clean as (
            select * replace (
                {_each(_IDS, values.cleaned)},
                {_each(_TIMES, values.cleaned)},
                {_each(_NUMBERS, values.cleaned)},
                {values.trimmed("event_type")} as event_type),
                {_of_order(_ORDER)} as order_text, {", ".join(f"{_of_order(name)} as {name}_text" for name in AMOUNTS)}
            from ({rows})),
        plain as (
            select * replace ({values.plain_type("event_type")} as event_type),
                event_type as event_type_text, {values.cleaned("order_text")} as order_id
            from clean),
        typed as (
            select * replace (
                {_each(_IDS, values.identifier)},
                {_each(_TIMES, values.moment)},
                {_each(_NUMBERS, values.number)},
                {values.event_type("event_type")} as event_type,
                {values.order_number("order_id")} as order_id,
                case when schema_version is null then {SCHEMA_VERSION} else try_cast(schema_version as integer) end
                    as schema_version),
                {", ".join(f"{name} as {name}_text" for name in (*_TIMES, *_NUMBERS, "schema_version"))}
            from plain),
        checked as (
            select * replace (
                {_flaw()} as flaw,
                {_counted_at()} as event_time,
                case when event_type = '{REFUND}' then 'purchase' else event_type end as event_type,
                case when event_type = '{REFUND}' then -abs(coalesce(quantity, 1)) else quantity end as quantity,
                coalesce(shop, {literal(DEFAULT_SHOP)}) as shop,
                {_extra()} as extra)
            from typed)
        select line, flaw, event_id is not null as has_id,
            * exclude (record, line, flaw, order_text, order_id, event_type_text, schema_version_text,
                {", ".join(f"{name}_text" for name in (*_TIMES, *_NUMBERS, *AMOUNTS))})
            replace (coalesce(event_id, {_content_hash()}) as event_id)
        from checked"""


def _each(names: Iterable[str], rule: Callable[[str], str]) -> str:
    return ", ".join(f"{rule(name)} as {name}" for name in names)


def _of_order(name: str) -> str:
    """Return SQL of a field of `extra` as text. Only texts that contain its name are parsed."""
    has_it = f"extra is not null and contains(extra, '\"{name}\"') and json_valid(extra)"
    return f"case when {has_it} then json_extract_string(extra, '$.{name}') end"


def _flaw() -> str:
    latest = utc_now() + MAX_AHEAD
    checks = [
        (values.is_unused("event_type"), Reason.UNUSED, "event_type", "event_type_text", "is not used"),
        ("event_time_text is null", Reason.MISSING, "event_time", "event_time_text", "is missing"),
        ("event_time is null", Reason.NOT_A_TIME, "event_time", "event_time_text", TIME_HINT),
        (f"not event_time between timestamp '{EARLIEST}' and timestamp '{latest}'", Reason.TIME_OUT_OF_RANGE,
         "event_time", "event_time_text",
         f"is read as a time that is not between {EARLIEST:%Y} and tomorrow: check its unit and notation"),
        ("received_at is null and received_at_text is not null", Reason.NOT_A_TIME, "received_at", "received_at_text",
         "is not a time"),
        (f"not coalesce(received_at between timestamp '{EARLIEST}' and timestamp '{latest}', true)",
         Reason.TIME_OUT_OF_RANGE, "received_at", "received_at_text", f"is not between {EARLIEST:%Y} and tomorrow"),
        ("event_type is null", Reason.MISSING, "event_type", "event_type_text", "is missing"),
        (f"not {is_one_of('event_type', (*EVENT_TYPES, REFUND))}", Reason.UNKNOWN_EVENT_TYPE, "event_type",
         "event_type", f"is not one of {', '.join(EVENT_TYPES)}"),
        (f"product_id is null and {is_one_of('event_type', (*PRODUCT_EVENT_TYPES, REFUND))}", Reason.MISSING,
         "product_id", "product_id", "is missing, and only pageviews and searches can be without a product"),
        ("coalesce(session_id, client_id) is null", Reason.MISSING, "session_id", "session_id",
         "and client_id are both missing"),
        *_number_checks(_NUMBERS),
        (f"schema_version is distinct from {SCHEMA_VERSION}", Reason.UNKNOWN_SCHEMA_VERSION, "schema_version",
         "schema_version_text",
         f"is not {SCHEMA_VERSION}, the version of this Boat"),
        _BAD_EXTRA,
        *((f"event_type in ('purchase', '{REFUND}') and {_is_no_amount(f'{name}_text')}", Reason.NOT_A_NUMBER, name,
           f"{name}_text", f"is not a number between -{MAX_PRICE:,.0f} and {MAX_PRICE:,.0f}") for name in AMOUNTS),
    ]  # fmt: skip
    return _first_flaw(*checks)


def _number_checks(limits: dict[str, float]) -> list[tuple[str, Reason, str, str, str]]:
    return [
        check
        for name, limit in limits.items()
        for check in (
            (f"{name} is null and {name}_text is not null", Reason.NOT_A_NUMBER, name, f"{name}_text",
             "is not a number"),
            (f"abs({name}) > {limit:.0f}", Reason.OUT_OF_RANGE, name, f"{name}_text",
             f"is not between -{limit:,.0f} and {limit:,.0f}"),
        )
    ]  # fmt: skip


def _is_no_amount(text: str) -> str:
    clean = f"({values.cleaned(text)})"
    return f"{clean} is not null and coalesce(abs({values.number(clean)}) > {MAX_PRICE:.0f}, true)"


def _clock_is_wrong() -> str:
    late, ahead = (f"to_seconds({delta.total_seconds():.0f})" for delta in (CLOCK_LATE, CLOCK_AHEAD))
    return f"(event_time < received_at - {late} or event_time > received_at + {ahead})"


def _counted_at() -> str:
    return f"case when received_at is not null and {_clock_is_wrong()} then received_at else event_time end"


def _extra() -> str:
    """Return SQL of `extra` with the order number as an id and the time of a wrong clock."""
    order = {ORDER_NUMBER.name: "order_id"}
    device = {DEVICE_TIME: "strftime(event_time, '%Y-%m-%dT%H:%M:%S.%fZ')"}
    is_wrong = f"received_at is not null and {_clock_is_wrong()} and coalesce(json_valid(extra), true)"
    return f"""case
        when {is_wrong} and order_text is not null then {_patched(order | device)}
        when {is_wrong} then {_patched(device)}
        when order_text is not null then {_patched(order)}
        else extra
        end"""


def _patched(fields: Mapping[str, str]) -> str:
    """Return SQL of `extra` with these fields. A field without a value is removed."""
    pairs = ", ".join(f"{literal(name)}, {value}" for name, value in fields.items())
    return f"nullif(json_merge_patch(coalesce(extra, '{{}}'), json_object({pairs}))::varchar, '{{}}')"


def _content_hash() -> str:
    content = ", ".join(f"coalesce(cast({part} as varchar), '')" for part in _CONTENT)
    return f"md5(concat_ws(chr(31), {content}))"


def products(rows: str) -> str:
    """Return the query for `line`, `flaw` and the typed columns of `raw.products` up to `extra`.

    Args:
        rows: A query of texts.
    """
    ids = ("shop", "product_id")
    flaw = _first_flaw(
        ("product_id is null", Reason.MISSING, "product_id", "product_id", "is missing"),
        *_number_checks({"price": MAX_PRICE}),
        _BAD_EXTRA,
    )
    return f"""
        with clean as (
            select * replace ({_each((*ids, "price"), values.cleaned)}) from ({rows})),
        typed as (
            select * replace ({_each(ids, values.identifier)}, {values.number("price")} as price), price as price_text
            from clean)
        select line, {flaw} as flaw, * exclude (record, line, flaw, price_text)
            replace (coalesce(shop, {literal(DEFAULT_SHOP)}) as shop)
        from typed"""


_BAD_EXTRA = (
    "case when extra is null then false when not json_valid(extra) then true else json_type(extra) <> 'OBJECT' end",
    Reason.WRONG_TYPE,
    "extra",
    "extra",
    "is not a JSON object",
)


def _first_flaw(*checks: tuple[str, Reason, str, str, str]) -> str:
    """Return SQL of the known flaw of a row, otherwise of the first failing check.

    Args:
        checks: Condition, reason, column, value and message of each check.
    """
    cases = " ".join(
        f"when {condition} then {flaw_sql(reason, column, value, message)}"
        for condition, reason, column, value, message in checks
    )
    return f"case when flaw is not null then flaw {cases} end"
