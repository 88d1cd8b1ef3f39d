"""Parts that the exported graphs share: the rules of `boat.events` for values, masking, and taking a Keras network in.

The rules are made of the tables in `boat.events` and of TensorFlow's own operations, so that TensorFlow Serving applies
them without any code of Boat. `tests/contracts/test_values.py` holds them to those in Python and SQL.
"""

import re
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from boat import events
from boat.models import pages
from boat.models.sessions import SEARCH

OTHER_TYPE = "other"
"""Event type of an event whose type is not known."""

_BLANK = "[" + "".join(f"\\x{{{ord(blank):x}}}" for blank in events.BLANKS) + "]"
_OUTER_BLANKS = f"^{_BLANK}+|{_BLANK}+$"
_MISSING = "|".join(
    "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else re.escape(letter) for letter in word)
    for word in events.MISSING_WORDS
    if word
)
_WHOLE_NUMBER_OR_MISSING = rf"^(?:(-?\d+)\.0|{_MISSING})$"


class EventReader(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Reads event types and product ids of a request as every other door reads them."""

    def __init__(self) -> None:
        super().__init__()
        # An event without a type is not there, nor is one of a type that no event in the warehouse has.
        names = {"": "", **dict.fromkeys(sorted(events.UNUSED_TYPES), ""), **events.TYPE_NAMES}
        rows = tf.lookup.KeyValueTensorInitializer(tf.constant(list(names)), tf.constant(list(names.values())))
        self._names = tf.lookup.StaticHashTable(rows, OTHER_TYPE)

    def __call__(self, event_type: tf.Tensor, product_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return types and ids of the contract, in the shape of the inputs; the type is empty if there is no event.

        A refund is not there, as returns are in no training example.
        """
        types = self.types(event_type)
        return tf.where(types == events.REFUND, "", types), identifiers(product_id)

    def types(self, texts: tf.Tensor) -> tf.Tensor:
        """Return event types as `boat.events.event_type` does: empty if missing or not used, else `OTHER_TYPE`."""
        plain = tf.strings.lower(_stripped(texts), "utf-8")
        return self._names.lookup(tf.strings.regex_replace(plain, "[ -]+", "_"))


def identifiers(texts: tf.Tensor) -> tf.Tensor:
    """Return ids as `boat.events.identifier` does, empty if missing."""
    # Two expressions that fail at the first letters of a usual id are quicker than one with the id in a group.
    return tf.strings.regex_replace(_stripped(texts), _WHOLE_NUMBER_OR_MISSING, r"\1")


def seconds(times: tf.Tensor) -> tf.Tensor:
    """Return times since 1970, float64, in seconds; the magnitude gives the unit, see `boat.events.TIME_UNITS`.

    A time in seconds stays exactly as it is, any other is rounded to microseconds.
    """
    (largest_seconds, _), *finer_units = events.TIME_UNITS
    read = times
    above = largest_seconds
    for largest, unit in finer_units:
        microseconds = times * unit if unit > 0 else times / -unit
        read = tf.where((times >= above) & (times < largest), tf.round(microseconds) / 1_000_000, read)
        above = largest
    return read


def _stripped(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(texts, _OUTER_BLANKS, "")


def untracked(network: keras.Model) -> tuple[Callable[[Any], tf.Tensor], list[tf.Variable]]:
    """A network as a plain function and its weights.

    A `tf.Module` that holds the Keras model itself would have Keras trace it for floats while it is saved.
    """

    def call(window: Any) -> tf.Tensor:
        return network(window)

    return call, [weight.value for weight in network.weights]


def first(values: tf.Tensor, wanted: tf.Tensor, count: int) -> tf.Tensor:
    """The first `count` wanted values of each row, moved together to the left; 0 where there are fewer."""
    width = tf.shape(values)[1]
    marks = tf.where(wanted, tf.range(width, 0, -1), 0)
    top = tf.math.top_k(marks, tf.minimum(count, width)).values
    found = tf.gather(values, tf.minimum(width - top, tf.maximum(width - 1, 0)), batch_dims=1)
    padded = tf.pad(tf.where(top > 0, found, tf.zeros_like(found)), [[0, 0], [0, tf.maximum(count - width, 0)]])
    return tf.ensure_shape(padded, [None, count])


def pages_of(urls: tf.Tensor) -> tf.Tensor:
    """URLs as `boat.models.pages` names their pages, string."""
    for pattern, left in pages.CUTS:
        urls = tf.strings.regex_replace(urls, pattern, left)
    searched = tf.strings.substr(urls, 0, len(SEARCH)) == SEARCH
    return tf.where(searched, tf.strings.lower(urls, "utf-8"), urls)
