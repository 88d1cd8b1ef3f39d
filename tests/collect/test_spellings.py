"""The same event under other names, in other letters and notations is the same row; no JSON breaks the reading."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from boat import events
from boat.collect.validation import _PLAIN_ID, BadEvent, Receipt, row
from tests.collect.events import NOW

RECEIPT = Receipt(datetime.fromtimestamp(NOW, UTC), {"ip_hash": "x"})
BOUNDED = settings(max_examples=100, deadline=None)
NAMES = {**events.SYNONYMS, "shop": ()}
WORDS = st.sampled_from(["mug", "Blue mug", "none", "N/A", "0306406152", "täglich"])
IDS = st.one_of(
    st.integers(0, 2**53).map(str),
    st.sampled_from(["a-1", "007", "11.22", "12e5", "00.50", "x y", "Ünïcode", "p/1", "NULLABLE", "nancy", "null1"]),
)
EVENTS = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(sorted(events.TYPE_NAMES)),
        "event_time": st.integers(-6 * 86_400_000, 3_500_000),
        "product_id": IDS,
        "client_id": IDS,
    },
    optional={
        "event_id": IDS,
        "shop": IDS,
        "session_id": IDS,
        "url": st.sampled_from(["/", "https://mugs.example/dp/0306406152?q=none"]),
        "query": WORDS,
        "price": st.decimals(-1000, 1000, places=2).map(float),
        "quantity": st.integers(-3, 3).map(float),
        "transaction_id": IDS.filter(lambda text: text.strip("0")),
    },
)


def letters(draw: st.DrawFn, name: str) -> str:
    """A name in another case, or with other separators."""
    words = name.split("_")
    spellings = [name, name.upper(), "-".join(words), " ".join(words).title(), "".join(words)]
    spellings.append(words[0] + "".join(word.title() for word in words[1:]))
    return draw(st.sampled_from(spellings))


def notation(draw: st.DrawFn, column: str, value: Any) -> Any:
    """The same value as another program writes it."""
    if column == "event_time":
        return draw(st.sampled_from(times(value)))
    if column == "event_type":
        spellings = [value, value.upper(), value.replace("_", "-"), value.replace("_", " ").title(), f" {value}\n"]
        return draw(st.sampled_from(spellings))
    if column in events.ID_COLUMNS:
        is_number = value.isdecimal() and str(int(value)) == value
        numbers = [int(value), float(value), f"{value}.0"] if is_number else []
        return draw(st.sampled_from([value, f" {value}\t", *numbers]))
    if column in {"price", "quantity"}:
        return draw(st.sampled_from([value, str(value), f" {value!r} ", f"{value:.6e}"]))
    return value


def times(milliseconds: int) -> list[Any]:
    """Notations of a moment, in milliseconds from the receipt."""
    moment = RECEIPT.time + timedelta(milliseconds=milliseconds)
    since = int(NOW) * 1000 + milliseconds
    text = moment.isoformat(timespec="milliseconds")
    east = (moment + timedelta(hours=2)).isoformat(" ", timespec="microseconds")
    numbers = [since, since * 1000, since * 10**6, since / 1000, str(since), f"{since / 1000:.3f}"]
    return [text, f"{text}Z", f"{text} UTC", text.replace("-", "/", 2), f"{east}+02:00", f"{east}+0200", *numbers]


@st.composite
def spelled(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event in the contract's own words, and the same as other programs write it."""
    event = draw(EVENTS)
    other: dict[str, Any] = {}
    for column, value in draw(st.permutations(sorted(event.items()))):
        known = draw(st.sampled_from((column, *NAMES[column])))
        holder = other.setdefault("extra", {}) if column == "transaction_id" and draw(st.booleans()) else other
        holder[letters(draw, known)] = notation(draw, column, value)
    for column in NAMES.keys() - event.keys() - {"received_at", "transaction_id"}:
        if draw(st.booleans()):
            other.setdefault(column, draw(st.sampled_from([None, ""])))
    event["event_time"] = times(event["event_time"])[0]
    return event, other


@BOUNDED
@given(spelled())
def test_the_same_event_in_other_words_is_the_same_row(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    event, other = pair
    assert row(json.loads(json.dumps(other)), RECEIPT) == row(event, RECEIPT)


HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.text("0123456789.eE+-:TZ /", max_size=40)
    | st.sampled_from(["\ud800", "\0", "undefined", "0001-01-01T00:00:00+15:00", "9" * 400, "1e9999", "+49 176 12345"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted({name for column, others in NAMES.items() for name in (column, *others)} | {"extra", "phone", "sku"})


@BOUNDED
@given(
    HOSTILE
    | st.dictionaries(st.sampled_from(FIELDS), HOSTILE, max_size=8)
    | st.fixed_dictionaries(
        {"event_type": st.sampled_from(sorted(events.TYPE_NAMES)), "client_id": st.just("c"), "sku": st.just("p")},
        optional=dict.fromkeys(
            ("event_time", "price", "quantity", "url", "query", "extra", "order_id", "tax"), HOSTILE
        ),
    )
)
def test_no_json_breaks_the_reading_of_an_event(event: Any) -> None:
    try:
        columns = row(event, RECEIPT)
    except BadEvent:
        return
    if columns is not None:
        assert json.loads(json.dumps(columns, ensure_ascii=False, allow_nan=False).encode()) == columns
        assert events.plausible(datetime.fromisoformat(columns["event_time"][:-1]), RECEIPT.time)
        assert abs(columns.get("price", 0)) <= events.MAX_PRICE
        assert abs(columns.get("quantity", 0)) <= events.MAX_QUANTITY


def test_ids_that_skip_the_normalisation_need_none() -> None:
    for word in events.MISSING_WORDS:
        for text in (word, word.upper(), word.title()):
            assert not _PLAIN_ID.fullmatch(text)
    for text in ("1.0", " a", "a ", "a\n", "a@b.c", "a" * 65):
        assert not _PLAIN_ID.fullmatch(text)
