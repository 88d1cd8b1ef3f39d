"""Features of a session's start agree with numbers calculated by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf

from boat.intent.features import FEATURES, features
from boat.intent.graph import IntentGraph
from boat.models import sessions
from boat.models.sessions import SessionEvent

THURSDAY_MORNING = 1_700_125_200.0  # 2023-11-16 09:00 UTC
WIDTH = 6


class FeatureModel(tf.Module):
    """A model that returns the features as log-odds."""

    def __call__(self, window: tf.Tensor) -> tf.Tensor:
        return features(window)


def _of(*events: SessionEvent) -> dict[str, float]:
    (instance,) = sessions.instances([events])
    columns = {name: tf.constant([values], sessions.INPUTS[name]) for name, values in instance.items()}
    window = IntentGraph(FeatureModel(), WIDTH).window(**columns)
    (row,) = features(window).numpy()
    return dict(zip(FEATURES, row.tolist(), strict=True))


def _event(kind: str, product: str = "", url: str = "", after: float | None = None) -> SessionEvent:
    time = 0.0 if after is None else THURSDAY_MORNING + after
    return {"event_type": kind, "product_id": product, "url": url, "event_time": time}


@pytest.fixture(scope="module")
def shopping() -> dict[str, float]:
    return _of(
        _event("pageview", url="/", after=0),
        _event("detail", "a", "/a", after=10),
        _event("detail", "b", "/b", after=40),
        _event("detail", "a", "/a", after=45),
        _event("add", "a", "/a", after=60),
    )


def test_events_are_counted_by_type(shopping: dict[str, float]) -> None:
    counts = {name: shopping[f"{name}_events"] for name in ("pageview", "detail", "add", "remove", "other")}
    assert counts == {"pageview": 1, "detail": 3, "add": 1, "remove": 0, "other": 0}
    assert shopping["events"] == 5
    assert (shopping["in_cart"], shopping["events_since_add"]) == (1, 0)


def test_repeats_are_counted(shopping: dict[str, float]) -> None:
    names = ("products", "product_repeats", "product_most", "product_before", "pages", "page_repeats")
    assert [shopping[name] for name in names] == [2, 2, 3, 2, 3, 2]


def test_times_become_gaps_hour_and_weekday(shopping: dict[str, float]) -> None:
    names = ("seconds", "gap_1", "gap_2", "gap_3", "gap_mean", "gap_longest", "gap_shortest")
    assert [shopping[name] for name in names] == [60, 15, 5, 30, 15, 30, 5]
    assert shopping["hour"] == pytest.approx(9 + 60 / 3600)
    assert (shopping["hour_first"], shopping["weekday"]) == (9, 3)


@pytest.mark.parametrize("events", [(), (_event("detail"),), (_event("detail", "a"), _event("detail", "a"))])
def test_unknown_values_have_their_own_code(events: Sequence[SessionEvent]) -> None:
    row = _of(*events)
    unknown = [name for name in FEATURES if name.startswith(("gap", "hour", "weekday", "seconds"))]
    assert [row[name] for name in unknown] == [-1] * len(unknown)
    assert np.isfinite(list(row.values())).all()


def test_a_longer_session_than_the_window_keeps_its_length() -> None:
    row = _of(*[_event("detail", "a", after=second) for second in range(20)])
    assert (row["events"], row["detail_events"], row["product_repeats"]) == (20, WIDTH, WIDTH - 1)
