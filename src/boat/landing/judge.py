"""SQL that types the rows of `boat.landing.rows` and says of each what is wrong with it, if anything (`flaw`)."""

from boat.events import EVENT_TYPES, PRODUCT_EVENT_TYPES, SCHEMA_VERSION, TYPE_NAMES
from boat.landing.dead_letters import Reason
from boat.landing.rows import flaw_sql, is_one_of, literal

# What makes an event the one it is, where a file gives it no id.
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


def events(rows: str) -> str:
    """Query for `line`, `flaw`, `has_id` and the typed columns of `raw.events` up to `extra`, over a query of texts."""
    flaw = _first_flaw(
        ("event_time_text is null", Reason.MISSING, "event_time", "event_time_text", "is missing"),
        ("event_time is null", Reason.NOT_A_TIME, "event_time", "event_time_text",
         "is not a time: write ISO 8601, or seconds or milliseconds since 1970"),
        ("received_at is null and received_at_text is not null", Reason.NOT_A_TIME, "received_at", "received_at_text",
         "is not a time"),
        ("event_type is null", Reason.MISSING, "event_type", "event_type", "is missing"),
        (f"not {is_one_of('event_type', EVENT_TYPES)}", Reason.UNKNOWN_EVENT_TYPE, "event_type", "event_type",
         f"is not one of {', '.join(EVENT_TYPES)}"),
        (f"product_id is null and {is_one_of('event_type', PRODUCT_EVENT_TYPES)}", Reason.MISSING, "product_id",
         "product_id",
         "is missing, and only a pageview or a search can be without"),
        ("coalesce(session_id, client_id) is null", Reason.MISSING, "session_id", "session_id",
         "and client_id are both missing"),
        ("price is null and price_text is not null", Reason.NOT_A_NUMBER, "price", "price_text", "is not a number"),
        ("quantity is null and quantity_text is not null", Reason.NOT_A_NUMBER, "quantity", "quantity_text",
         "is not a number"),
        (f"schema_version is distinct from {SCHEMA_VERSION}", Reason.UNKNOWN_SCHEMA_VERSION, "schema_version",
         "schema_version_text",
         f"is not {SCHEMA_VERSION}, the version this Boat knows"),
        _BAD_EXTRA,
    )  # fmt: skip
    content = ", ".join(f"coalesce(cast({part} as varchar), '')" for part in _CONTENT)
    return f"""
        with typed as (
            select * replace (
                {_time("event_time")} as event_time,
                {_time("received_at")} as received_at,
                {_event_type()} as event_type,
                {_number("price")} as price,
                {_number("quantity")} as quantity,
                coalesce(shop, 'shop') as shop,
                case when schema_version is null then {SCHEMA_VERSION} else try_cast(schema_version as integer) end
                    as schema_version),
                event_time as event_time_text, received_at as received_at_text, price as price_text,
                quantity as quantity_text, schema_version as schema_version_text
            from ({rows}))
        select line, {flaw} as flaw, event_id is not null as has_id,
            * exclude (record, line, flaw, event_time_text, received_at_text, price_text, quantity_text,
                schema_version_text)
            replace (coalesce(event_id, md5(concat_ws(chr(31), {content}))) as event_id)
        from typed"""


def products(rows: str) -> str:
    """Query for `line`, `flaw` and the typed columns of `raw.products` up to `extra`, over a query of texts."""
    flaw = _first_flaw(
        ("product_id is null", Reason.MISSING, "product_id", "product_id", "is missing"),
        ("price is null and price_text is not null", Reason.NOT_A_NUMBER, "price", "price_text", "is not a number"),
        _BAD_EXTRA,
    )
    return f"""
        with typed as (
            select * replace (coalesce(shop, 'shop') as shop, {_number("price")} as price), price as price_text
            from ({rows}))
        select line, {flaw} as flaw, * exclude (record, line, flaw, price_text) from typed"""


_BAD_EXTRA = (
    "case when extra is null then false when not json_valid(extra) then true else json_type(extra) <> 'OBJECT' end",
    Reason.WRONG_TYPE,
    "extra",
    "extra",
    "is not a JSON object",
)


def _first_flaw(*checks: tuple[str, Reason, str, str, str]) -> str:
    """The flaw a row came with, or else the first of these (condition, reason, column, value, message) that holds."""
    cases = " ".join(
        f"when {condition} then {flaw_sql(reason, column, value, message)}"
        for condition, reason, column, value, message in checks
    )
    return f"case when flaw is not null then flaw {cases} end"


def _time(text: str) -> str:
    """A timestamp in UTC from a text with or without a zone, or from a number since 1970 by its magnitude."""
    number, moment = f"try_cast({text} as double)", f"try_cast({text} as timestamptz)"
    return f"""case
        when {number} is null then case when isfinite({moment}) then {moment} at time zone 'UTC' end
        when {number} >= 1e8 and {number} < 1e11 then make_timestamp(cast(round({number} * 1e6) as bigint))
        when {number} >= 1e11 and {number} < 1e14 then make_timestamp(cast(round({number} * 1e3) as bigint))
        end"""


def _number(text: str) -> str:
    return f"case when isfinite(try_cast({text} as double)) then try_cast({text} as double) end"


def _event_type() -> str:
    name = "lower(trim(event_type))"
    synonyms = " ".join(f"when {literal(synonym)} then {literal(meant)}" for synonym, meant in TYPE_NAMES.items())
    known = is_one_of(name, EVENT_TYPES)
    return f"nullif(case when {known} then {name} else case {name} {synonyms} else {name} end end, '')"
