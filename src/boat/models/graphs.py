"""Common parts of exported graphs: the rules of `boat.events` for values, masking, and using a Keras network.

The rules are built from the tables in `boat.events` and TensorFlow's operations, so that TensorFlow Serving applies
them without Boat's code. `tests/contracts/test_values.py` compares them with the rules in Python and SQL.
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
"""Event type of an event of unknown type."""

_BLANK = "[" + "".join(f"\\x{{{ord(blank):x}}}" for blank in events.BLANKS) + "]"
_OUTER_BLANKS = f"^{_BLANK}+|{_BLANK}+$"
_MISSING = "|".join(
    "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else re.escape(letter) for letter in word)
    for word in events.MISSING_WORDS
    if word
)
_WHOLE_NUMBER_OR_MISSING = rf"^(?:(-?\d+)\.0|{_MISSING})$"


class EventReader(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Reads event types and product ids of a request by the event contract."""

    def __init__(self) -> None:
        super().__init__()
        # Events without a type, and of types that are not used, are ignored.
        names = {"": "", **dict.fromkeys(sorted(events.UNUSED_TYPES), ""), **events.TYPE_NAMES}
        rows = tf.lookup.KeyValueTensorInitializer(tf.constant(list(names)), tf.constant(list(names.values())))
        self._names = tf.lookup.StaticHashTable(rows, OTHER_TYPE)

    def __call__(self, event_type: tf.Tensor, product_id: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return types and ids of the contract, in the shape of the inputs. The type of an ignored event is empty.

        Refunds are ignored, because returns are not in training examples.
        """
        types = self.types(event_type)
        return tf.where(types == events.REFUND, "", types), identifiers(product_id)

    def types(self, texts: tf.Tensor) -> tf.Tensor:
        """Return types as `boat.events.event_type` does: empty if missing or not used, `OTHER_TYPE` if unknown."""
        plain = tf.strings.lower(_stripped(texts), "utf-8")
        return self._names.lookup(tf.strings.regex_replace(plain, "[ -]+", "_"))


def identifiers(texts: tf.Tensor) -> tf.Tensor:
    """Return ids as `boat.events.identifier` does, empty if missing."""
    # Expressions that fail at the first letters of a usual id are faster than one with the id in a group.
    return tf.strings.regex_replace(_stripped(texts), _WHOLE_NUMBER_OR_MISSING, r"\1")


def seconds(times: tf.Tensor) -> tf.Tensor:
    """Return times since 1970, float64, in seconds; the magnitude gives the unit, see `boat.events.TIME_UNITS`.

    A time in seconds is not changed; other times are rounded to microseconds.
    """
    (largest_seconds, _), *finer_units = events.TIME_UNITS
    in_seconds = times
    above = largest_seconds
    for largest, unit in finer_units:
        microseconds = times * unit if unit > 0 else times / -unit
        in_seconds = tf.where((times >= above) & (times < largest), tf.round(microseconds) / 1_000_000, in_seconds)
        above = largest
    return in_seconds


def _stripped(texts: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(texts, _OUTER_BLANKS, "")


def untracked(network: keras.Model) -> tuple[Callable[[Any], tf.Tensor], list[tf.Variable]]:
    """Return a network as a plain function, and its weights.

    If a `tf.Module` contained the Keras model, Keras would trace it for floats while it is saved.
    """

    def call(window: Any) -> tf.Tensor:
        return network(window)

    return call, [weight.value for weight in network.weights]


def first(values: tf.Tensor, selected: tf.Tensor, count: int) -> tf.Tensor:
    """Return the first `count` selected values of each row, moved to the left; 0 if there are fewer."""
    width = tf.shape(values)[1]
    marks = tf.where(selected, tf.range(width, 0, -1), 0)
    top = tf.math.top_k(marks, tf.minimum(count, width)).values
    gathered = tf.gather(values, tf.minimum(width - top, tf.maximum(width - 1, 0)), batch_dims=1)
    padded = tf.pad(tf.where(top > 0, gathered, tf.zeros_like(gathered)), [[0, 0], [0, tf.maximum(count - width, 0)]])
    return tf.ensure_shape(padded, [None, count])


def pages_of(urls: tf.Tensor) -> tf.Tensor:
    """Return the pages of URLs, as `boat.models.pages` names them, string."""
    for pattern, left in pages.CUTS:
        urls = tf.strings.regex_replace(urls, pattern, left)
    searched = tf.strings.substr(urls, 0, len(SEARCH)) == SEARCH
    return tf.where(searched, tf.strings.lower(urls, "utf-8"), urls)
