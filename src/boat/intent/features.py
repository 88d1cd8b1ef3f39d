"""Inputs of the intent models: the last events of a session, and hand-made features of them.

The same TensorFlow function computes the features in training and in the exported graph, so that they cannot differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from boat.events import EVENT_TYPES
from boat.models import examples
from boat.models.examples import Sessions

EVENT_CODES = {name: code for code, name in enumerate(EVENT_TYPES, start=1)}
OTHER = len(EVENT_TYPES) + 1
"""Code of an event type that is not in the contract. 0 is padding."""

LONGEST_SECONDS = 86_400.0
"""Longest gap in seconds. Longer gaps are clipped."""

FEATURES = (
    "events",
    *(f"{name}_events" for name in (*EVENT_TYPES, "other")),
    "newest_event",
    "in_cart",
    "events_since_add",
    "products",
    "product_repeats",
    "product_most",
    "product_before",
    "pages",
    "page_repeats",
    "seconds",
    "gap_1",
    "gap_2",
    "gap_3",
    "gap_mean",
    "gap_longest",
    "gap_shortest",
    "hour_first",
    "hour",
    "weekday",
)
"""Columns of `features`. Gaps are in seconds, hours (with their fraction) and
weekday (0 is Monday) in UTC. An unknown value is -1."""

_UNKNOWN = -1.0
_BATCH = 4096
_STARTS = 4
_VALIDATION_CUTS = 20_000
_TRAINING_CUTS = 100_000
_LATEST = 2.0**33
"""Largest valid time, in seconds since 1970 (the year 2242). A clock with a later time is wrong."""


class Window(NamedTuple):
    """The last events of sessions, newest first.

    Attributes:
        codes: Event types, int32 [sessions, window]. 0 if there is no event.
        products: A number for each product, int64 [sessions, window]. 0 if the event has no product.
        pages: A number for each URL, int64 [sessions, window]. 0 if the event has no URL.
        seconds: Time in seconds since 1970, float64 [sessions, window]. 0 if unknown.
        length: Number of events of the whole session so far, int32 [sessions].
    """

    codes: np.ndarray | tf.Tensor
    products: np.ndarray | tf.Tensor
    pages: np.ndarray | tf.Tensor
    seconds: np.ndarray | tf.Tensor
    length: np.ndarray | tf.Tensor

    @classmethod
    def spec(cls, width: int) -> "Window":
        """Return the types and shapes of a window, for a `tf.function`."""
        kinds = (tf.int32, tf.int64, tf.int64, tf.float64)
        codes, products, pages, seconds = (tf.TensorSpec([None, width], kind) for kind in kinds)
        return cls(codes, products, pages, seconds, tf.TensorSpec([None], tf.int32))


@dataclass(frozen=True)
class Histories:
    """Events of all sessions up to their first purchase, in one array per column.

    Attributes:
        codes: Event types, int32 [events].
        products: A number for each product, int64 [events]. 0 if the event has no product.
        pages: A number for each URL, int64 [events]. 0 if the event has no URL.
        seconds: Time in seconds since 1970, float64 [events].
        offsets: Index of the first event of each session, then the number of events, int64 [sessions + 1].
        buys: Whether each session buys, bool [sessions].
    """

    codes: np.ndarray
    products: np.ndarray
    pages: np.ndarray
    seconds: np.ndarray
    offsets: np.ndarray
    buys: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of events of each session, int64 [sessions]."""
        return np.diff(self.offsets)

    def cuts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the session and prefix length of each validation cut, see `boat.models.examples.cuts`.

        Above a limit, return a random sample.
        """
        return _sample(*examples.cuts(self.lengths), _VALIDATION_CUTS, seed)

    def prefixes(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw up to four prefixes of each session, of any length. Return the session and the length of each.

        They are not the validation cuts: a model could recognise a prefix that ends with its session by its length.
        Above a limit, return a random sample.
        """
        draw = np.random.default_rng(seed)
        lengths = 1 + (draw.random((len(self.lengths), _STARTS)) * self.lengths[:, None]).astype(np.int64)
        width = int(self.lengths.max(initial=0)) + 1
        prefixes = np.unique(np.arange(len(lengths))[:, None] * width + lengths)
        return _sample(prefixes // width, prefixes % width, _TRAINING_CUTS, seed)

    def windows(self, session: np.ndarray, prefix: np.ndarray, width: int) -> Window:
        """Return the last `width` of the first `prefix` events of each session."""
        index = self.offsets[session][:, None] + prefix[:, None] - 1 - np.arange(width)
        inside = np.arange(width) < prefix[:, None]
        index = np.where(inside, index, 0)
        columns = (self.codes, self.products, self.pages, self.seconds)
        codes, products, pages, seconds = (np.where(inside, column[index], 0) for column in columns)
        return Window(codes, products, pages, seconds, prefix.astype(np.int32))

    def features(self, session: np.ndarray, prefix: np.ndarray, width: int) -> np.ndarray:
        """Return the `features` of the windows, float32 [cuts, features]."""
        compute = _compiled(width)
        parts = [
            compute(self.windows(session[start : start + _BATCH], prefix[start : start + _BATCH], width)).numpy()
            for start in range(0, len(session), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(FEATURES)), np.float32)


def histories(sessions: Sessions) -> Histories:
    """Return the arrays of sessions from `intent.parquet`."""
    types, type_numbers = sessions.distinct("event_type")
    codes = np.array([EVENT_CODES.get(name, OTHER) for name in types], dtype=np.int32)
    return Histories(
        codes=codes[type_numbers],
        products=sessions.distinct("product_id")[1],
        pages=sessions.distinct("url")[1],
        seconds=sessions.seconds,
        offsets=sessions.offsets,
        buys=sessions.events["is_purchase"].to_numpy()[sessions.offsets[:-1]].astype(bool),
    )


def _sample(session: np.ndarray, prefix: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if len(session) > size:
        sample = np.sort(np.random.default_rng(seed).choice(len(session), size, replace=False))
        session, prefix = session[sample], prefix[sample]
    return session, prefix


def repeated(values: tf.Tensor) -> tf.Tensor:
    """Return whether an older event of the window has the same value other than 0, bool [sessions, window]."""
    older = tf.range(tf.shape(values)[1])[None, :] > tf.range(tf.shape(values)[1])[:, None]
    return tf.reduce_any(_same(values) & older, axis=2)


def known_gaps(window: Window) -> tuple[tf.Tensor, tf.Tensor]:
    """Return seconds since the event before, float32 [sessions, window], and whether both times are known."""
    timed = known_times(window)
    before = tf.pad(window.seconds[:, 1:], [[0, 0], [0, 1]])
    is_known = timed & tf.pad(timed[:, 1:], [[0, 0], [0, 1]])
    return _clipped(window.seconds - before, is_known), is_known


def known_ages(window: Window) -> tuple[tf.Tensor, tf.Tensor]:
    """Return seconds from each event to the newest, float32 [sessions, window], and whether both times are known."""
    timed = known_times(window)
    is_known = timed & timed[:, :1]
    return _clipped(window.seconds[:, :1] - window.seconds, is_known), is_known


def known_times(window: Window) -> tf.Tensor:
    """Return whether there is an event with a known time, bool [sessions, window]."""
    return (window.codes > 0) & (window.seconds > 0) & (window.seconds < _LATEST)


def features(window: Window) -> tf.Tensor:
    """Return hand-made features of sessions, float32 [sessions, features], in the order of `FEATURES`."""
    columns = [
        *_events(window),
        *_repeats(window.products, with_frequency=True),
        *_repeats(window.pages),
        *_times(window),
    ]
    return tf.stack([tf.cast(column, tf.float32) for column in columns], axis=1)


@cache
def _compiled(width: int) -> Callable[[Window], tf.Tensor]:
    compiled: Callable[[Window], tf.Tensor] = tf.function(features, input_signature=[Window.spec(width)])
    return compiled


def _events(window: Window) -> list[tf.Tensor]:
    codes = window.codes
    counts = tf.unstack(tf.reduce_sum(tf.one_hot(codes - 1, OTHER), axis=1), axis=1)
    adds = codes == EVENT_CODES["add"]
    added, removed = counts[EVENT_CODES["add"] - 1], counts[EVENT_CODES["remove"] - 1]
    since = tf.where(tf.reduce_any(adds, axis=1), tf.argmax(adds, axis=1, output_type=tf.int32), -1)
    return [window.length, *counts, codes[:, 0], tf.maximum(added - removed, 0.0), since]


def _repeats(values: tf.Tensor, with_frequency: bool = False) -> list[tf.Tensor]:
    """Count distinct values and repeats.

    With frequency, also count the events with the most frequent value, and the earlier events with the newest value.
    """
    present, again = values > 0, repeated(values)
    distinct = _count(present & ~again)
    figures = [distinct, _count(again)]
    if with_frequency:
        times = _count(_same(values))
        newest = tf.argmax(present, axis=1, output_type=tf.int32)
        figures += [tf.reduce_max(times, axis=1), tf.maximum(tf.gather(times, newest, batch_dims=1) - 1, 0)]
    return figures


def _times(window: Window) -> list[tf.Tensor]:
    ages, aged = known_ages(window)
    gaps, has_gap = known_gaps(window)
    gaps_or_unknown = tf.where(has_gap, gaps, _UNKNOWN)
    number = tf.cast(_count(has_gap), tf.float32)
    mean = tf.where(number > 0, tf.reduce_sum(gaps, axis=1) / tf.maximum(number, 1.0), _UNKNOWN)
    shortest = tf.reduce_min(tf.where(has_gap, gaps, float(LONGEST_SECONDS)), axis=1)
    newest_gaps = [
        gaps_or_unknown[:, n] if n < gaps.shape[1] else tf.fill([tf.shape(gaps)[0]], _UNKNOWN) for n in range(3)
    ]
    dated = known_times(window)
    newest = tf.where(dated[:, 0], window.seconds[:, 0], tf.zeros_like(window.seconds[:, 0]))
    oldest = tf.reduce_min(tf.where(dated, window.seconds, _LATEST), axis=1)
    weekday = (tf.floor(newest / 86_400) + 3) % 7  # 1970 began on a Thursday
    return [
        tf.where(aged[:, 0], tf.reduce_max(ages, axis=1), _UNKNOWN),
        *newest_gaps,
        mean,
        tf.reduce_max(gaps_or_unknown, axis=1),
        tf.where(number > 0, shortest, _UNKNOWN),
        tf.where(tf.reduce_any(dated, axis=1), tf.cast(oldest % 86_400 / 3600, tf.float32), _UNKNOWN),
        *(tf.where(dated[:, 0], tf.cast(value, tf.float32), _UNKNOWN) for value in (newest % 86_400 / 3600, weekday)),
    ]


def _same(values: tf.Tensor) -> tf.Tensor:
    return (values[:, :, None] == values[:, None, :]) & (values > 0)[:, :, None]


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=-1)


def _clipped(seconds: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    clipped = tf.clip_by_value(tf.where(is_known, seconds, tf.zeros_like(seconds)), 0.0, LONGEST_SECONDS)
    return tf.cast(clipped, tf.float32)
