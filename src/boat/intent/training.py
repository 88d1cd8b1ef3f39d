"""The intent networks: the probability that a session buys, from its events so far.

An epoch has one prefix of random length of each session. The loss is the plain log-loss without class weights, so that
the output is a probability.
"""

from collections.abc import Callable, Mapping, Sequence
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
from boat.models.fitting import Limits, Resumable, Trained, fit, run_epochs

_MIN_STEPS_PER_EPOCH = 30
_REFIT_EPOCHS, _REFIT_RATE = 2, 0.3  # passes over all sessions; share of the learning rate at their start

Network = Literal["sequence", "lstm"]


class IntentNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """Network with a convolution and attention over a window of events.

    Args:
        parameters: Sizes and dropout.
        base_rate: Share of sessions that buy, the prediction before the training.
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
        self.odds = keras.layers.Dense(1, bias_initializer=_initial_odds(base_rate), name="odds")

    def call(self, window: Window, training: bool = False) -> tf.Tensor:
        """Return the log-odds of a purchase, float32 [sessions]."""
        events, mask = _events(window)
        hidden = self.hidden(tf.nn.relu(self.neighbours(events) + self.position)) * mask
        weights = tf.nn.softmax(self.energy(hidden) + (mask - 1) * 1e9, axis=1)
        pooled = [
            hidden[:, 0],
            tf.reduce_max(hidden, axis=1),
            tf.reduce_sum(weights * hidden, axis=1),
            _session(window),
        ]
        summary = self.summary(self.dropout(tf.concat(pooled, axis=1), training=training))
        return self.odds(self.dropout(summary, training=training))[:, 0]


class LstmNetwork(keras.Model):  # type: ignore[misc]
    """LSTM that reads the events of a window, oldest first.

    Args:
        parameters: Sizes and dropout.
        base_rate: Share of sessions that buy, the prediction before the training.
    """

    def __init__(self, parameters: IntentParameters, base_rate: float) -> None:
        super().__init__()
        self.lstm = keras.layers.LSTM(parameters.units, name="lstm")
        self.dropout = keras.layers.Dropout(parameters.dropout)
        self.odds = keras.layers.Dense(1, bias_initializer=_initial_odds(base_rate), name="odds")

    def call(self, window: Window, training: bool = False) -> tf.Tensor:
        """Return the log-odds of a purchase, float32 [sessions]."""
        events, mask = _events(window)
        oldest_first = tf.reverse(events, [1])
        hidden = self.lstm(oldest_first, mask=tf.reverse(mask[:, :, 0] > 0, [1]))
        return self.odds(self.dropout(hidden, training=training))[:, 0]


_NETWORKS: Mapping[Network, type[IntentNetwork] | type[LstmNetwork]] = {"sequence": IntentNetwork, "lstm": LstmNetwork}


def _initial_odds(base_rate: float) -> keras.Initializer:
    return keras.initializers.Constant(float(np.log(base_rate / (1 - base_rate))))


def _events(window: Window) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the inputs of events, float32 [sessions, window, inputs], and a mask: 1 for an event, 0 for padding."""
    mask = tf.cast(window.codes > 0, tf.float32)[:, :, None]
    kinds = tf.one_hot(window.codes - 1, OTHER)
    flags = tf.stack([window.products > 0, repeated(window.products), repeated(window.pages)], axis=2)
    times = tf.stack([known_gaps(window)[0], known_ages(window)[0]], axis=2)
    return tf.concat([kinds, tf.cast(flags, tf.float32), _compressed(times)], axis=2) * mask, mask


def _session(window: Window) -> tf.Tensor:
    """Return the hand-made features on a scale from 0 to about 1, float32 [sessions, features]."""
    return _compressed(features(window) + 1)


def _compressed(values: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(values) / float(np.log1p(LONGEST_SECONDS))


def check(train_part: Histories, validation: Histories) -> None:
    """Check that a model can be trained on these sessions.

    Raises:
        DataError: No training session contains a purchase, or all do, or there are no validation sessions.
    """
    if not 0 < train_part.buys.sum() < len(train_part.buys) or not len(validation.buys):
        raise DataError(
            f"Cannot train the intent model: {train_part.buys.sum()} of {len(train_part.buys)} training sessions "
            f"contain a purchase, and {len(validation.buys)} sessions are for validation.",
            "Increase `days` of `retrain`, or load events of more days.",
        )


def train(
    model: Network,
    train_part: Histories,
    validation: Histories,
    parameters: IntentParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train until the validation loss stops falling or a limit is reached, and use the best weights.

    Args:
        model: Name of the network.
        train_part: Sessions to train on.
        validation: Sessions for early stopping, as the prefixes of `boat.models.examples.cuts`.
        parameters: Sizes, learning rate and limits.
        report: Function that receives the figures of each epoch.
        checkpoint: File of the state after each epoch. An interrupted training resumes from it.

    Raises:
        DataError: See `check`.
    """
    check(train_part, validation)
    keras.utils.set_random_seed(parameters.seed)
    network = _new(model, train_part, parameters)
    order, cuts = np.random.default_rng(parameters.seed), np.random.default_rng(parameters.seed)
    optimizer = keras.optimizers.Adam(parameters.learning_rate)

    return fit(
        network,
        _step(network, optimizer, train_part, parameters, cuts),
        _batches(order, train_part, parameters),
        _validation_loss(network, validation, parameters),
        ("validation_loss", "falls"),
        Limits(parameters.epochs, parameters.patience, parameters.max_seconds),
        report,
        Resumable(network, optimizer, [order, cuts], checkpoint),
    )


def refit(
    model: Network, weights: Sequence[np.ndarray], sessions: Histories, parameters: IntentParameters
) -> keras.Model:
    """Continue a trained network on more sessions for a few epochs, with a falling learning rate.

    Args:
        model: Name of the network.
        weights: Its weights.
        sessions: All sessions to learn from.
        parameters: Sizes, learning rate and time limit.
    """
    keras.utils.set_random_seed(parameters.seed)
    network = _new(model, sessions, parameters)
    network.set_weights(list(weights))
    order, cuts = np.random.default_rng(parameters.seed), np.random.default_rng(parameters.seed)
    batches = _batches(order, sessions, parameters)
    steps = _REFIT_EPOCHS * len(batches())
    rate = keras.optimizers.schedules.CosineDecay(parameters.learning_rate * _REFIT_RATE, steps)
    step = _step(network, keras.optimizers.Adam(rate), sessions, parameters, cuts)
    run_epochs(step, batches, Limits(_REFIT_EPOCHS, 0, parameters.max_seconds))
    return network


def _new(model: Network, sessions: Histories, parameters: IntentParameters) -> keras.Model:
    network = _NETWORKS[model](parameters, float(np.mean(sessions.buys)))
    network(sessions.windows(np.array([0]), np.array([1]), parameters.window))
    return network


def _batches(
    order: np.random.Generator, sessions: Histories, parameters: IntentParameters
) -> Callable[[], Sequence[np.ndarray]]:
    size = max(1, min(parameters.batch_size, len(sessions.buys) // _MIN_STEPS_PER_EPOCH))

    def batches() -> Sequence[np.ndarray]:
        shuffled = order.permutation(len(sessions.buys))
        return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]

    return batches


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
    def learn(window: Window, buys: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(buys, network(window, training=True)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    def step(batch: np.ndarray) -> tf.Tensor:
        prefix = 1 + (cuts.random(len(batch)) * lengths[batch]).astype(np.int64)
        return learn(sessions.windows(batch, prefix, parameters.window), sessions.buys[batch].astype(np.float32))

    return step


def _validation_loss(network: keras.Model, validation: Histories, parameters: IntentParameters) -> Callable[[], float]:
    session, prefix = validation.cuts(parameters.seed)
    windows = validation.windows(session, prefix, parameters.window)

    def loss() -> float:
        odds = network(windows).numpy().astype(np.float64)
        return metrics.log_loss(validation.buys[session], 1 / (1 + np.exp(-odds)))

    return loss
