"""Log-odds of a purchase from a window of events, as parts of an exported graph: a class for each type of model."""

from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from boat.intent.boosting import Forest
from boat.intent.features import Window, features
from boat.intent.linear import COLUMNS, Linear
from boat.models.graphs import untracked


class Odds(Protocol):
    """A model that computes log-odds. It must be a `tf.Module`, so that it can be exported."""

    def __call__(self, window: Window) -> tf.Tensor:
        """Return the log-odds that each session buys, float32 [sessions]."""


class NetworkOdds(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Log-odds from a network of `boat.intent.training`."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self._odds, self._weights = untracked(network)

    def __call__(self, window: Window) -> tf.Tensor:
        """Return the log-odds that each session buys, see `Odds`."""
        return self._odds(window)


class LinearOdds(tf.Module):  # type: ignore[misc]
    """Log-odds from a logistic regression on the number of events of each type."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self._weights = tf.Variable(linear.weights[:, None], trainable=False, dtype=tf.float32)
        self._base = linear.base

    def __call__(self, window: Window) -> tf.Tensor:
        """Return the log-odds that each session buys, see `Odds`."""
        counts = tf.gather(features(window), COLUMNS, axis=1)
        return self._base + (tf.math.log1p(counts) @ self._weights)[:, 0]


class ForestOdds(tf.Module):  # type: ignore[misc]
    """Log-odds from trees on the hand-made features. A step moves all sessions down one level in all trees."""

    def __init__(self, forest: Forest) -> None:
        super().__init__()
        trees, width = forest.feature.shape
        roots = np.arange(trees, dtype=np.int32) * width

        def flat(values: np.ndarray, dtype: tf.DType) -> tf.Variable:
            return tf.Variable(values.reshape(-1), trainable=False, dtype=dtype)

        self._roots = tf.Variable(roots, trainable=False)
        self._feature = flat(forest.feature, tf.int32)
        self._threshold = flat(forest.threshold, tf.float64)
        self._left, self._right = (flat(side + roots[:, None], tf.int32) for side in (forest.left, forest.right))
        self._value = flat(forest.value, tf.float64)
        self._base, self._depth = forest.base, forest.depth

    def __call__(self, window: Window) -> tf.Tensor:
        """Return the log-odds that each session buys, see `Odds`."""
        return self.of(features(window))

    def of(self, table: tf.Tensor) -> tf.Tensor:
        """Return the log-odds, float32 [rows], of features, float32 [rows, columns]."""
        # Compare in float64, the type of the thresholds: a rounded threshold could send a row to the wrong side.
        columns = tf.cast(table, tf.float64)
        node = tf.broadcast_to(self._roots, [tf.shape(table)[0], tf.size(self._roots)])
        for _ in range(self._depth):
            value = tf.gather(columns, tf.gather(self._feature, node), batch_dims=1)
            left = value <= tf.gather(self._threshold, node)
            node = tf.where(left, tf.gather(self._left, node), tf.gather(self._right, node))
        return tf.cast(self._base + tf.reduce_sum(tf.gather(self._value, node), axis=1), tf.float32)


class BlendOdds(tf.Module):  # type: ignore[misc]
    """Mean of the log-odds of several models."""

    def __init__(self, parts: Sequence[Odds]) -> None:
        super().__init__()
        self._parts = list(parts)

    def __call__(self, window: Window) -> tf.Tensor:
        """Return the log-odds that each session buys, see `Odds`."""
        return tf.reduce_mean(tf.stack([part(window) for part in self._parts]), axis=0)
