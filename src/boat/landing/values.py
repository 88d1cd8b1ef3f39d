"""The rules of `boat.events` for one value, as SQL for DuckDB.

`cleaned` and `trimmed` take SQL of a text that can be null. The other functions take the name of a column that one of
them returned, and return SQL of the value: null if it is missing or cannot be read. There are two steps, because DuckDB
would evaluate the first one again for each use. Rare cases are behind cheap conditions, because of millions of rows.
"""

from collections.abc import Iterable

from boat.events import (
    BLANKS,
    MISSING_WORDS,
    NUMBER,
    TIME_EXPONENT,
    TIME_NUMBER,
    TIME_TEXT,
    TIME_UNITS,
    TYPE_NAMES,
    UNUSED_TYPES,
)

_LONGEST_WORD = max(map(len, MISSING_WORDS))
_MIN_DIGITS, _MAX_DIGITS = 9, 19  # of `TIME_NUMBER`
_USUAL_TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z?"
"""The part of `TIME_TEXT` that DuckDB reads fast without help."""


def literal(text: str) -> str:
    """Return a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def is_one_of(text: str, values: Iterable[str]) -> str:
    """Return SQL of whether a text is in a list. DuckDB would turn `in (…)` into a join, and rows would lose order."""
    return f"list_contains([{', '.join(map(literal, values))}], {text})"


def trimmed(text: str) -> str:
    """Return SQL of a text without surrounding blanks."""
    ends = f"{text} < '!' or {text} >= '\u0080' or {text}[-1] < '!' or {text}[-1] >= '\u0080'"
    return f"case when {ends} then trim({text}, {literal(BLANKS)}) else {text} end"


def cleaned(text: str) -> str:
    """Return SQL of a text without surrounding blanks, null if it is a word for a missing value."""
    return f"""case
        when {text} < '!' or {text} >= '\u0080' or {text}[-1] < '!' or {text}[-1] >= '\u0080'
            then {_unless_missing(f"trim({text}, {literal(BLANKS)})")}
        when strlen({text}) > {_LONGEST_WORD} or {text} between '0' and ':' then {text}
        else {_unless_missing(text)}
        end"""


def _unless_missing(text: str) -> str:
    """Return SQL of a trimmed text, null if it is a word for a missing value."""
    return f"case when {is_one_of(f'lower({text})', MISSING_WORDS)} then null else {text} end"


def identifier(clean: str) -> str:
    """Return SQL of an id."""
    whole = rf"regexp_full_match({clean}, '-?\d+\.0')"
    return f"case when suffix({clean}, '.0') and {whole} then left({clean}, -2) else {clean} end"


def order_number(clean: str) -> str:
    """Return SQL of an order number."""
    read = identifier(clean)
    return f"case when ltrim({read}, '0') in ('', '-') then null else {read} end"


def number(clean: str) -> str:
    """Return SQL of a number, double; null if it is missing, not finite or not a number."""
    read = f"try_cast({clean} as double)"
    return f"case when isfinite({read}) and regexp_full_match({clean}, {literal(NUMBER)}) then {read} end"


def moment(clean: str) -> str:
    """Return SQL of a timestamp in UTC, plausible or not."""
    whole = f"try_cast({clean} as bigint)"
    parts = f"regexp_extract({clean}, {literal(f'^{TIME_TEXT}$')}, ['date', 'time', 'fraction', 'zone'])"
    return f"""case
        when {clean} is null then null
        when strlen({clean}) between {_MIN_DIGITS} and {_MAX_DIGITS}
            and {whole} > 0 and cast({whole} as varchar) = {clean}
            then make_timestamp({_microseconds(whole)})
        when regexp_full_match({clean}, {literal(_USUAL_TIME)}) then try_cast({clean} as timestamp)
        when {clean}[-1] between '0' and ':' and regexp_full_match({clean}, {literal(TIME_NUMBER)})
            then make_timestamp({_microseconds(*_around_the_point(clean))})
        when regexp_full_match({clean}, {literal(TIME_EXPONENT)})
            then make_timestamp({_microseconds(*_around_the_point(f"try_cast({clean} as decimal(38, 9))::varchar"))})
        else {_from_parts(parts)}
        end"""


def _microseconds(whole: str, fraction: str = "") -> str:
    """Return SQL of microseconds since 1970 from a number and its decimals; the number gives the unit."""
    cases = ""
    for below, unit in TIME_UNITS:
        rest = f" + cast(left({fraction} || '000000', {len(str(unit)) - 1}) as bigint)" if fraction and unit > 1 else ""
        read = f"{whole} * {unit}{rest}" if unit > 0 else f"{whole} // {-unit}"
        cases += f" when {whole} < {below:.0f} then {read}"
    return f"case{cases} end"


def _around_the_point(clean: str) -> tuple[str, str]:
    return f"try_cast(split_part({clean}, '.', 1) as bigint)", f"split_part({clean}, '.', 2)"


def _from_parts(parts: str) -> str:
    date = f"replace({parts}.date, '/', '-')"
    time = f"coalesce(nullif({parts}.time, ''), '00:00') || left({parts}.fraction, 7)"
    sign = f"case when {parts}.zone[1] = '-' then -1 when {parts}.zone[1] = '+' then 1 else 0 end"
    digits = f"replace({parts}.zone, ':', '')"
    minutes = f"coalesce(try_cast({digits}[2:3] as integer), 0) * 60 + coalesce(try_cast({digits}[4:5] as integer), 0)"
    return f"try_cast({date} || ' ' || {time} as timestamp) - to_minutes({sign} * ({minutes}))"


def plain_type(trim: str) -> str:
    """Return SQL of an event type's name as `boat.events.plain_type` writes it."""
    plain = f"lower({trim})"
    return f"case when {plain} similar to '[a-z_]*' then {plain} else regexp_replace({plain}, '[ -]+', '_', 'g') end"


def event_type(plain: str) -> str:
    """Return SQL of an event type or `refund`; the plain name if it is unknown, null if it is missing."""
    names = " ".join(
        f"when {literal(name)} then {literal(meant)}" for name, meant in TYPE_NAMES.items() if name != meant
    )
    return f"case {plain} when '' then null {names} else {plain} end"


def is_unused(plain: str) -> str:
    """Return SQL of whether a plain event type is known and not used."""
    return is_one_of(plain, sorted(UNUSED_TYPES))
