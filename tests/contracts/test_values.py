"""All implementations of the rules in `boat.events` give a raw value the same meaning.

An implementation has a function for each rule. It returns the value of a text, `None` if missing, or REFUSED.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from boat import events

REFUSED = "cannot be read"
IGNORED = "not known or not used"

Rule = Callable[[str], Any]


@dataclass(frozen=True)
class Implementation:
    """The rules in one language.

    Attributes:
        rules: Functions by the name of their rule. A language has only the rules that it needs.
        is_exact: Whether times are exact to the microsecond. A float has only 16 digits.
    """

    rules: Mapping[str, Rule]
    is_exact: bool = True


def python() -> Implementation:
    """Return the rules of `boat.events`, for the collector."""

    def event_type(text: str) -> str | None:
        return events.event_type(text) or (IGNORED if events.plain_type(text) else None)

    rules: dict[str, Rule] = {
        "event_type": event_type,
        "identifier": events.identifier,
        "order_number": events.order_number,
        "number": lambda text: events.number(text, events.MAX_QUANTITY),
        "moment": lambda text: _if_plausible(events.moment(text)),
        "time_number": events.moment,
    }
    return Implementation({name: _refusing(rule) for name, rule in rules.items()})


def tensorflow() -> Implementation:
    """Return the rules of `boat.models.graphs`, for the exported models."""
    import tensorflow as tf

    from boat.models.graphs import OTHER_TYPE, EventReader, identifiers, seconds

    reader = EventReader()

    def event_type(text: str) -> str | None:
        read = _decoded(reader.types(tf.constant([[text.encode()]])))
        ignored = read == OTHER_TYPE or events.is_unused(text)
        return IGNORED if ignored else read or None

    def identifier(text: str) -> str | None:
        return _decoded(identifiers(tf.constant([[text.encode()]]))) or None

    def time_number(text: str) -> datetime:
        read = float(seconds(tf.constant([[float(text)]], tf.float64)).numpy()[0, 0])
        return datetime.fromtimestamp(read, UTC).replace(tzinfo=None)

    rules: dict[str, Rule] = {"event_type": event_type, "identifier": identifier, "time_number": time_number}
    return Implementation(rules, is_exact=False)


def sql() -> Implementation:
    """Return the rules of `boat.landing.values`, for files."""
    import duckdb

    from boat.landing import values

    connection = duckdb.connect()

    def rule(expression: str, unread: str | None = None) -> Rule:
        query = f"""
            select clean, {expression} as read
            from (select *, {values.plain_type("trim")} as plain
                from (select {values.trimmed("raw")} as trim, {values.cleaned("raw")} as clean
                    from (select ?::varchar as raw)))
        """

        def read(text: str) -> Any:
            clean, read = connection.execute(query, [text]).fetchall()[0]
            return unread if read is None and clean is not None else read

        return read

    plain_or_known = rule(values.event_type("plain"))
    number, moment = rule(values.number("clean"), REFUSED), rule(values.moment("clean"), REFUSED)

    def event_type(text: str) -> Any:
        read = plain_or_known(text)
        return read if read in {None, *events.TYPE_NAMES.values()} else IGNORED

    def quantity(text: str) -> Any:
        read = number(text)
        return REFUSED if isinstance(read, float) and abs(read) > events.MAX_QUANTITY else read

    rules: dict[str, Rule] = {
        "event_type": event_type,
        "identifier": rule(values.identifier("clean")),
        "order_number": rule(values.order_number("clean")),
        "number": quantity,
        "moment": lambda text: _if_plausible(moment(text)),
        "time_number": moment,
    }
    return Implementation(rules)


IMPLEMENTATIONS: Mapping[str, Callable[[], Implementation]] = {"python": python, "tensorflow": tensorflow, "sql": sql}


def _refusing(rule: Rule) -> Rule:
    def read(text: str) -> Any:
        try:
            return rule(text)
        except events.ValueProblem:
            return REFUSED

    return read


def _if_plausible(time: Any) -> Any:
    """Return a plausible time or REFUSED. SQL parses some implausible times that Python refuses."""
    is_taken = time is None or (isinstance(time, datetime) and events.plausible(time, events.utc_now()))
    return time if is_taken else REFUSED  # DuckDB returns a year before 1 or after 9999 as text


def _decoded(values: Any) -> str:
    text: bytes = values.numpy()[0, 0]
    return text.decode()


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    return IMPLEMENTATIONS[request.param]()


NOON = datetime(2024, 5, 1, 12)

TYPES: Mapping[str, str | None] = {
    "detail": "detail",
    "Detail": "detail",
    " DETAIL ": "detail",
    "view": "detail",
    "view_item": "detail",
    "View Item": "detail",
    "view-item": "detail",
    "view - item": "detail",
    "\u00a0View\u00a0\ufeff": "detail",
    "add_to_cart": "add",
    "Add to Cart": "add",
    "Product Added": "add",
    "PageView": "pageview",
    "page view": "pageview",
    "Order Completed": "purchase",
    "refund": "refund",
    "Order Refunded": "refund",
    "clic\u212a": "click",  # the Kelvin sign is a K
    "scroll": IGNORED,
    "Session Start": IGNORED,
    "detail_": IGNORED,
    "view__item": IGNORED,
    "view\titem": IGNORED,
    "détail": IGNORED,
    "none": IGNORED,
    "-": IGNORED,
    "": None,
    " \t\n": None,
}
IDS: Mapping[str, str | None] = {
    "355908": "355908",
    "355908.0": "355908",
    " 355908 ": "355908",
    "\ufeff355908.0\r\n": "355908",
    "-7.0": "-7",
    "0": "0",
    "0.0": "0",
    "-0.0": "-0",
    "007": "007",
    "007.0": "007",
    "5304967901234567.0": "5304967901234567",
    "5304967901234567890123": "5304967901234567890123",
    "11.22": "11.22",
    "11.00": "11.00",
    "11.": "11.",
    ".0": ".0",
    "+7.0": "+7.0",
    "7.0.0": "7.0.0",
    "v7.0": "v7.0",
    "12e5": "12e5",
    "1e5.0": "1e5.0",
    "1,0": "1,0",
    "٣.0": "٣.0",  # digits of other scripts are text
    "blue mug": "blue mug",
    "blue\nmug": "blue\nmug",
    "BLUE-Mug": "BLUE-Mug",
    "nullable": "nullable",
    "none.0": "none.0",
    "not set": "not set",
    "N/A-1": "N/A-1",
    "nan7": "nan7",
    "\u200b": "\u200b",  # a zero-width space is not a blank
    "(not \u017fet)": "(not \u017fet)",  # a long s is another letter
}
ORDER_NUMBERS: Mapping[str, str | None] = {
    "T1": "T1",
    "1001.0": "1001",
    "10": "10",
    "0": None,
    "0.0": None,
    "000": None,
    "-": None,
    "(not set)": None,
    "--": "--",
}
NUMBERS: Mapping[str, float | str | None] = {
    "9.5": 9.5,
    " 9.5 ": 9.5,
    "-1": -1.0,
    "+2": 2.0,
    ".5": 0.5,
    "5.": 5.0,
    "1e3": 1000.0,
    "1000000": 1e6,
    "-1000000": -1e6,
    "1000000.1": REFUSED,
    "1e300": REFUSED,
    "inf": REFUSED,
    "9,5": REFUSED,
    "1_000": REFUSED,
    "0x10": REFUSED,
    "one": REFUSED,
    "1 2": REFUSED,
}
TIMES: Mapping[str, datetime | str | None] = {
    "2024-05-01T12:00:00Z": NOON,
    "2024-05-01 12:00:00": NOON,
    "2024-05-01 12:00:00 UTC": NOON,
    "2024/05/01 12:00": NOON,
    " 2024-05-01T14:00:00+02:00 ": NOON,
    "2024-05-01T14:00:00+02": NOON,
    "2024-05-01T06:30:00-0530": NOON,
    "2024-05-01": datetime(2024, 5, 1),
    "2024-05-01T12:00:00.5Z": NOON.replace(microsecond=500_000),
    "2024-05-01T12:00:00.123456789Z": NOON.replace(microsecond=123_456),
    "2024-13-01": REFUSED,
    "2023-02-29": REFUSED,
    "2024-05-01 25:00:00": REFUSED,
    "2024-05-01 12:00:00 Europe/Berlin": REFUSED,
    "01.05.2024": REFUSED,
    "now": REFUSED,
    "12345": REFUSED,
    "-1714564800": REFUSED,
    "1999-12-31T23:59:59Z": REFUSED,
    "20240501120000": REFUSED,
    "253402300799": REFUSED,
    "1714564800": NOON,
    "1.7145648e9": NOON,
    "1.7145648e+12": NOON,
    "1.7e9": REFUSED,
}
_SECONDS = 1_714_564_800
TIME_NUMBERS: Mapping[str, datetime] = {
    f"{_SECONDS}": NOON,
    f"{_SECONDS}.0": NOON,
    f"{_SECONDS}.5": NOON.replace(microsecond=500_000),
    f"{_SECONDS}000": NOON,
    f"{_SECONDS}123": NOON.replace(microsecond=123_000),
    f"{_SECONDS}123.0": NOON.replace(microsecond=123_000),
    f"{_SECONDS}123456": NOON.replace(microsecond=123_456),
    f"{_SECONDS}123456789": NOON.replace(microsecond=123_456),
    "99999999999": datetime(1970, 1, 1) + timedelta(seconds=99_999_999_999),
    "100000000000": datetime(1970, 1, 1) + timedelta(seconds=100_000_000),
    "99999999999999": datetime(1970, 1, 1) + timedelta(milliseconds=99_999_999_999_999),
    "100000000000000": datetime(1970, 1, 1) + timedelta(microseconds=100_000_000_000_000),
    "99999999999999990": datetime(1970, 1, 1) + timedelta(microseconds=99_999_999_999_999_990),
    "100000000000000000": datetime(1970, 1, 1) + timedelta(microseconds=100_000_000_000_000),
}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "event_type": TYPES,
    "identifier": IDS,
    "order_number": ORDER_NUMBERS,
    "number": NUMBERS,
    "moment": TIMES,
    "time_number": TIME_NUMBERS,
}


def _agree(implementation: Implementation, rule: str, values: Mapping[str, Any]) -> None:
    if rule not in implementation.rules:
        pytest.skip(f"this language has no need of the rule {rule}")
    read = {raw: implementation.rules[rule](raw) for raw in values}
    different = {
        raw: (read[raw], value) for raw, value in values.items() if not _same(implementation, read[raw], value)
    }
    assert not different, "by raw value: the value read and the expected value"


def _same(implementation: Implementation, read: Any, value: Any) -> bool:
    if isinstance(value, datetime) and isinstance(read, datetime) and not implementation.is_exact:
        # 16 digits are exact to a quarter of a microsecond now, and to 16 microseconds in the year 5138.
        return abs(read - value) <= timedelta(microseconds=1 if value.year < 2100 else 20)
    return bool(read == value)


@pytest.mark.parametrize("rule", TABLES)
def test_a_raw_value_has_its_meaning(implementation: Implementation, rule: str) -> None:
    _agree(implementation, rule, TABLES[rule])


def test_every_name_of_an_event_type_is_understood_however_it_is_spelled(implementation: Implementation) -> None:
    spellings: tuple[Callable[[str], str], ...] = (
        str,
        str.upper,
        str.title,
        lambda name: name.replace("_", " "),
        lambda name: name.replace("_", "-").upper(),
        lambda name: f"\u00a0{name}\t",
    )
    names = {spell(name): event_type for name, event_type in events.TYPE_NAMES.items() for spell in spellings}
    _agree(implementation, "event_type", names)
    _agree(implementation, "event_type", dict.fromkeys(events.UNUSED_TYPES, IGNORED))


@pytest.mark.parametrize("rule", ["identifier", "order_number", "number", "moment"])
def test_every_word_for_missing_is_missing(implementation: Implementation, rule: str) -> None:
    spelled = [case for word in events.MISSING_WORDS for case in (word, word.upper(), word.title(), f" {word}\t")]
    _agree(implementation, rule, dict.fromkeys(spelled))


@pytest.mark.parametrize("rule", ["identifier", "order_number", "number", "event_type", "moment"])
def test_blanks_around_a_value_are_removed(implementation: Implementation, rule: str) -> None:
    raw, value = {
        "identifier": ("a 1", "a 1"),
        "order_number": ("T1.0", "T1.0"),
        "number": ("7", 7.0),
        "event_type": ("view", "detail"),
        "moment": ("2024-05-01 12:00", NOON),
    }[rule]
    around = [form for blank in events.BLANKS for form in (blank + raw, raw + blank, 2 * blank + raw + 2 * blank)]
    _agree(implementation, rule, dict.fromkeys([*around, events.BLANKS + raw + events.BLANKS], value))


# Texts that resemble the values of the rules, and random texts.
PIECES = (*events.BLANKS, *events.MISSING_WORDS, *events.TYPE_NAMES, *"0123456789", ".0", ".", "-", "_", "e5", "a", "é")
# PostgreSQL, DuckDB and RE2 do not support a zero byte in a text; UTF-8 does not support half a surrogate pair.
LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TEXTS = (
    st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
    | st.text(LETTERS, max_size=12)
    | st.floats().map(str)
    | st.integers().map(str)
)
SPELLED = st.sampled_from(sorted(events.TYPE_NAMES)).flatmap(
    lambda name: st.tuples(*(st.sampled_from((letter, letter.upper(), " ", "-", "")) for letter in name)).map("".join)
)
MOMENTS = st.integers(10**9, 2**63 // 10**9 - 1)  # the largest time in nanoseconds is in the year 2262
FRACTIONS = st.integers(0, 999_999)
UNITS = st.sampled_from((1, 10**3, 10**6, 10**9))


@pytest.fixture(scope="module")
def other_implementations() -> dict[str, Implementation]:
    """Return all implementations except Python's."""
    return {name: make() for name, make in IMPLEMENTATIONS.items() if name != "python"}


PYTHON = python()
BOUNDED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@BOUNDED
@given(text=TEXTS | SPELLED)
@example("İ")
@example("\x85view\x85")
def test_all_implementations_read_a_text_alike(other_implementations: dict[str, Implementation], text: str) -> None:
    for rule, read in PYTHON.rules.items():
        for name, implementation in other_implementations.items():
            if rule in implementation.rules and rule != "time_number":
                assert (name, rule, implementation.rules[rule](text)) == (name, rule, read(text))


@BOUNDED
@given(seconds=MOMENTS, microseconds=FRACTIONS, unit=UNITS)
def test_all_implementations_read_a_number_since_1970_alike(
    other_implementations: dict[str, Implementation], seconds: int, microseconds: int, unit: int
) -> None:
    text = str(seconds * unit + microseconds * unit // 1_000_000)
    time = PYTHON.rules["time_number"](text)
    for name, implementation in other_implementations.items():
        assert _same(implementation, implementation.rules["time_number"](text), time), (name, text)
