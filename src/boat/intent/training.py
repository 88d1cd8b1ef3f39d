"""The purchase-intent networks: whether a session buys, judged from its events so far.

Trained on prefixes of random length, one of each session an epoch, by plain log-loss: the classes keep their weights,
so that what comes out is a probability.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from boat import metrics
from boat.errors import DataError
from boat.intent.features import (
    LONGEST_SECONDS,
    OTHER,
    Histories,
    Window,
    features,
    known_ages,
    known_gaps,
    repeated,
)
from boat.intent.parameters import IntentParameters
from boat.models.checkpoint import Checkpoint
from boat.models.fitting import Limits, Resumable, Trained, fit

_FEWEST_STEPS = 30  # an epoch

Network = Literal["sequence", "lstm"]


class IntentNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """Log-odds of a purchase from a window of events.

    Args:
        parameters: Sizes and dropout.
        base_rate: Share of sessions that buy, where the answer starts from.
    """

    def __init__(self, parameters: IntentParameters, base_rate: float) -> None:
        super().__init__()
        units = parameters.units
        self.position = self.add_weight(name="position", shape=(parameters.window, units), initializer="zeros")
        self.neighbours = keras.layers.Conv1D(units, 3, padding="same", name="neighbours")
        self.hidden = keras.layers.Dense(units, activation="relu", name="hidden")
        self.dropout = keras.layers.Dropout(parameters.dropout)
        self.energy = keras.layers.Dense(1, name="energy")
        self.summary = keras.layers.Dense(units, activation="relu", name="summary")
        self.odds = keras.layers.Dense(1, bias_initializer=_start(base_rate), name="odds")

    def call(self, window: Window, training: bool = False) -> tf.Tensor:
        """Log-odds, float32 [sessions]."""
        events, there = _events(window)
        read = self.hidden(tf.nn.relu(self.neighbours(events) + self.position)) * there
        weights = tf.nn.softmax(self.energy(read) + (there - 1) * 1e9, axis=1)
        pooled = [read[:, 0], tf.reduce_max(read, axis=1), tf.reduce_sum(weights * read, axis=1), _session(window)]
        summary = self.summary(self.dropout(tf.concat(pooled, axis=1), training=training))
        return self.odds(self.dropout(summary, training=training))[:, 0]


class LstmNetwork(keras.Model):  # type: ignore[misc]
    """Log-odds of a purchase from an LSTM that reads the events in turn.

    Args:
        parameters: Sizes and dropout.
        base_rate: Share of sessions that buy, where the answer starts from.
    """

    def __init__(self, parameters: IntentParameters, base_rate: float) -> None:
        super().__init__()
        self.lstm = keras.layers.LSTM(parameters.units, name="lstm")
        self.dropout = keras.layers.Dropout(parameters.dropout)
        self.odds = keras.layers.Dense(1, bias_initializer=_start(base_rate), name="odds")

    def call(self, window: Window, training: bool = False) -> tf.Tensor:
        """Log-odds, float32 [sessions]."""
        events, there = _events(window)
        oldest_first = tf.reverse(events, [1])
        read = self.lstm(oldest_first, mask=tf.reverse(there[:, :, 0] > 0, [1]))
        return self.odds(self.dropout(read, training=training))[:, 0]


_NETWORKS: Mapping[Network, type[IntentNetwork] | type[LstmNetwork]] = {"sequence": IntentNetwork, "lstm": LstmNetwork}


def _start(base_rate: float) -> keras.Initializer:
    return keras.initializers.Constant(float(np.log(base_rate / (1 - base_rate))))


def _events(window: Window) -> tuple[tf.Tensor, tf.Tensor]:
    """What is known of each event [sessions, window, ...], 0 where there is none, and whether there is one."""
    there = tf.cast(window.codes > 0, tf.float32)[:, :, None]
    kinds = tf.one_hot(window.codes - 1, OTHER)
    flags = tf.stack([window.products > 0, repeated(window.products), repeated(window.pages)], axis=2)
    times = tf.stack([known_gaps(window)[0], known_ages(window)[0]], axis=2)
    return tf.concat([kinds, tf.cast(flags, tf.float32), _compressed(times)], axis=2) * there, there


def _session(window: Window) -> tf.Tensor:
    """The hand-made features on a scale from 0 to about 1, float32 [sessions, features]."""
    return _compressed(features(window) + 1)


def _compressed(values: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(values) / float(np.log1p(LONGEST_SECONDS))


def check(train_part: Histories, validation: Histories) -> None:
    """Refuse sessions that nothing can be learned from.

    Raises:
        DataError: Nobody buys in the training sessions, or everybody does, or there is none to validate with.
    """
    if not 0 < train_part.buys.sum() < len(train_part.buys) or not len(validation.buys):
        raise DataError(
            f"{train_part.buys.sum()} of {len(train_part.buys)} training sessions buy.", "Take a snapshot of more days."
        )


def train(
    model: Network,
    train_part: Histories,
    validation: Histories,
    parameters: IntentParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train until the validation loss no longer falls or the time is over; keep the best weights.

    Args:
        model: Which network.
        train_part: Sessions to train on.
        validation: Sessions that choose when to stop, cut where `boat.models.examples.cuts` says.
        parameters: Sizes, speed and limits.
        report: Called with the figures of each epoch.
        checkpoint: Where its state is kept after each epoch, and gone on from.

    Raises:
        DataError: See `check`.
    """
    check(train_part, validation)
    keras.utils.set_random_seed(parameters.seed)
    network = _NETWORKS[model](parameters, float(np.mean(train_part.buys)))
    network(train_part.windows(np.array([0]), np.array([1]), parameters.window))
    order, cuts = np.random.default_rng(parameters.seed), np.random.default_rng(parameters.seed)
    optimizer = keras.optimizers.Adam(parameters.learning_rate)

    size = max(1, min(parameters.batch_size, len(train_part.buys) // _FEWEST_STEPS))

    def batches() -> Iterator[np.ndarray]:
        shuffled = order.permutation(len(train_part.buys))
        return (shuffled[at : at + size] for at in range(0, len(shuffled), size))

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
    network: keras.Model,
    optimizer: keras.Optimizer,
    sessions: Histories,
    parameters: IntentParameters,
    cuts: np.random.Generator,
) -> Callable[[np.ndarray], tf.Tensor]:
    lengths = sessions.lengths

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[Window.spec(parameters.window), tf.TensorSpec([None], tf.float32)]
    )
    def learn(seen: Window, buys: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(buys, network(seen, training=True)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    def step(batch: np.ndarray) -> tf.Tensor:
        shown = 1 + (cuts.random(len(batch)) * lengths[batch]).astype(np.int64)
        return learn(sessions.windows(batch, shown, parameters.window), sessions.buys[batch].astype(np.float32))

    return step


def _validation_loss(network: keras.Model, validation: Histories, parameters: IntentParameters) -> Callable[[], float]:
    session, shown = validation.cuts(parameters.seed)
    windows = validation.windows(session, shown, parameters.window)

    def loss() -> float:
        odds = network(windows).numpy().astype(np.float64)
        return metrics.log_loss(validation.buys[session], 1 / (1 + np.exp(-odds)))

    return loss
