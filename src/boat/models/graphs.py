"""What the exported graphs share: masking, and taking a Keras network in."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from boat.models import pages
from boat.models.sessions import SEARCH


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
