"""The purchase-intent model: whether a session buys, judged from its events so far.

Trained on prefixes of random length, one of each session an epoch, by plain log-loss: the classes keep their weights,
so that what comes out is a probability.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from boat.errors import DataError
from boat.evaluation import metrics
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions
from boat.models.fitting import Limits, Resumable, Trained, fit
from boat.models.intent_graph import EVENT_CODES, OTHER
from boat.models.parameters import IntentParameters

_LONGEST_SECONDS = 86_400.0
_VALIDATION_CUTS = 20_000

Window = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Newest first: codes int32, products int64 and seconds float64 [cuts, window], 0 where none; length int32 [cuts]."""


@dataclass(frozen=True)
class Histories:
    """Sessions up to their first purchase, laid end to end.

    Attributes:
        codes: Event types, int32 [events].
        products: A number for each product, int64 [events]; 0 where there is none.
        seconds: float64 [events].
        offsets: int64 [sessions + 1].
        buys: bool [sessions].
    """

    codes: np.ndarray
    products: np.ndarray
    seconds: np.ndarray
    offsets: np.ndarray
    buys: np.ndarray

    def windows(self, session: np.ndarray, shown: np.ndarray, length: int) -> Window:
        """The last `length` of the first `shown` events of each session."""
        index = self.offsets[session][:, None] + shown[:, None] - 1 - np.arange(length)
        inside = np.arange(length) < shown[:, None]
        index = np.where(inside, index, 0)
        columns = (np.where(inside, column[index], 0) for column in (self.codes, self.products, self.seconds))
        codes, products, seconds = columns
        return codes.astype(np.int32), products, seconds, shown.astype(np.int32)


def histories(sessions: Sessions) -> Histories:
    """Arrays of a part of `intent.parquet`."""
    types = sessions.strings("event_type")
    kinds, inverse = np.unique(types.astype(str), return_inverse=True)
    codes = np.array([EVENT_CODES.get(kind, OTHER) for kind in kinds], dtype=np.int32)
    products = pa.array(sessions.strings("product_id"), pa.string()).dictionary_encode()
    names = np.array(products.dictionary.to_pylist(), dtype=object)
    number = np.where(names == "", 0, np.arange(1, len(names) + 1))
    return Histories(
        codes=codes[inverse],
        products=number[products.indices.to_numpy()].astype(np.int64),
        seconds=sessions.seconds,
        offsets=sessions.offsets,
        buys=sessions.events["is_purchase"].to_numpy()[sessions.offsets[:-1]].astype(bool),
    )


class IntentNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """Log-odds of a purchase from a window of events.

    Args:
        parameters: Sizes and dropout.
        base_rate: Share of sessions that buy, where the answer starts from.
    """

    def __init__(self, parameters: IntentParameters, base_rate: float) -> None:
        super().__init__()
        self._window = parameters.window
        units = parameters.units
        self.position = self.add_weight(name="position", shape=(parameters.window, units), initializer="zeros")
        self.neighbours = keras.layers.Conv1D(units, 3, padding="same", name="neighbours")
        self.hidden = keras.layers.Dense(units, activation="relu", name="hidden")
        self.dropout = keras.layers.Dropout(parameters.dropout)
        self.energy = keras.layers.Dense(1, name="energy")
        self.summary = keras.layers.Dense(units, activation="relu", name="summary")
        start = keras.initializers.Constant(float(np.log(base_rate / (1 - base_rate))))
        self.odds = keras.layers.Dense(1, bias_initializer=start, name="odds")

    def call(self, window: tuple[tf.Tensor, ...], training: bool = False) -> tf.Tensor:
        """A `Window` to log-odds, float32 [sessions]."""
        codes, products, seconds, length = window
        events, session = _features(codes, products, seconds, length)
        there = tf.cast(codes > 0, tf.float32)[:, :, None]
        read = self.hidden(tf.nn.relu(self.neighbours(events * there) + self.position)) * there
        weights = tf.nn.softmax(self.energy(read) + (there - 1) * 1e9, axis=1)
        pooled = [read[:, 0], tf.reduce_max(read, axis=1), tf.reduce_sum(weights * read, axis=1), session]
        summary = self.summary(self.dropout(tf.concat(pooled, axis=1), training=training))
        return self.odds(self.dropout(summary, training=training))[:, 0]


def _features(
    codes: tf.Tensor, products: tf.Tensor, seconds: tf.Tensor, length: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """What is known of each event [sessions, window, ...] and of the session as a whole [sessions, ...]."""
    kinds = tf.one_hot(codes - 1, OTHER)
    older = tf.range(tf.shape(codes)[1])[None, :] > tf.range(tf.shape(codes)[1])[:, None]
    has_product = products > 0
    again = tf.reduce_any((products[:, :, None] == products[:, None, :]) & older, axis=2) & has_product
    timed = (seconds > 0) & (codes > 0)
    before = tf.pad(seconds[:, 1:], [[0, 0], [0, 1]])
    gap = _log_seconds(seconds - before, timed & (before > 0))
    age = _log_seconds(seconds[:, :1] - seconds, timed)
    flags = tf.cast(tf.stack([has_product, again], axis=2), tf.float32)
    events = tf.concat([kinds, flags, gap[:, :, None], age[:, :, None]], axis=2)
    new_products = tf.reduce_sum(tf.cast(has_product & ~again, tf.float32), axis=1, keepdims=True)
    counts = tf.concat([tf.reduce_sum(kinds, axis=1), new_products, tf.cast(length, tf.float32)[:, None]], axis=1)
    return events, tf.concat([tf.math.log1p(counts), tf.reduce_max(age, axis=1, keepdims=True)], axis=1)


def _log_seconds(seconds: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Seconds to a scale from 0 to about 1; 0 where they are not known."""
    clipped = tf.clip_by_value(tf.where(known, seconds, tf.zeros_like(seconds)), 0.0, _LONGEST_SECONDS)
    return tf.math.log1p(tf.cast(clipped, tf.float32)) / float(np.log1p(_LONGEST_SECONDS))


def train(
    train_part: Histories,
    validation: Histories,
    parameters: IntentParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train until the validation loss no longer falls or the time is over; keep the best weights.

    Args:
        train_part: Sessions to train on.
        validation: Sessions that choose when to stop, cut where `boat.models.examples.cuts` says.
        parameters: Sizes, speed and limits.
        report: Called with the figures of each epoch.
        checkpoint: Where its state is kept after each epoch, and gone on from.

    Raises:
        DataError: Nobody buys in the training sessions, or everybody does.
    """
    base_rate = float(np.mean(train_part.buys)) if len(train_part.buys) else 0.0
    if not 0 < base_rate < 1 or not len(validation.buys):
        raise DataError(
            f"{train_part.buys.sum()} of {len(train_part.buys)} training sessions buy.", "Take a snapshot of more days."
        )
    keras.utils.set_random_seed(parameters.seed)
    network = IntentNetwork(parameters, base_rate)
    network(train_part.windows(np.array([0]), np.array([1]), parameters.window))
    order, cuts = np.random.default_rng(parameters.seed), np.random.default_rng(parameters.seed)
    optimizer = keras.optimizers.Adam(parameters.learning_rate)

    def batches() -> Iterator[np.ndarray]:
        shuffled = order.permutation(len(train_part.buys))
        return (shuffled[at : at + parameters.batch_size] for at in range(0, len(shuffled), parameters.batch_size))

    return fit(
        network,
        _step(network, optimizer, train_part, parameters, cuts),
        batches,
        _validation_loss(network, validation, parameters),
        ("validation_loss", "falls"),
        Limits(parameters.epochs, parameters.patience, parameters.max_seconds),
        report,
        Resumable(network, optimizer, [order, cuts], checkpoint),
    )


def _step(
    network: IntentNetwork,
    optimizer: keras.Optimizer,
    sessions: Histories,
    parameters: IntentParameters,
    cuts: np.random.Generator,
) -> Callable[[np.ndarray], tf.Tensor]:
    lengths = np.diff(sessions.offsets)
    window = tuple(tf.TensorSpec([None, parameters.window], kind) for kind in (tf.int32, tf.int64, tf.float64))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[(*window, tf.TensorSpec([None], tf.int32)), tf.TensorSpec([None], tf.float32)]
    )
    def learn(seen: tuple[tf.Tensor, ...], buys: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(buys, network(seen, training=True)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    def step(batch: np.ndarray) -> tf.Tensor:
        shown = 1 + (cuts.random(len(batch)) * lengths[batch]).astype(np.int64)
        return learn(sessions.windows(batch, shown, parameters.window), sessions.buys[batch].astype(np.float32))

    return step


def _validation_loss(
    network: IntentNetwork, validation: Histories, parameters: IntentParameters
) -> Callable[[], float]:
    session, shown = examples.cuts(np.diff(validation.offsets))
    if len(session) > _VALIDATION_CUTS:
        chosen = np.random.default_rng(parameters.seed).choice(len(session), _VALIDATION_CUTS, replace=False)
        session, shown = session[chosen], shown[chosen]
    windows = validation.windows(session, shown, parameters.window)

    def loss() -> float:
        odds = network(windows).numpy().astype(np.float64)
        return metrics.log_loss(validation.buys[session], 1 / (1 + np.exp(-odds)))

    return loss
