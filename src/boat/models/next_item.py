"""The next-item model `attention`: what a session's last products say about the one to come.

Each product is a direction. A session is its last product plus an attention-weighted mean of its last few; products
whose directions are nearest are recommended, and those that the session has seen before are a little nearer. Trained on
every prefix of every session, against products drawn at random; it begins with the directions that plain counts give.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from boat.errors import DataError
from boat.evaluation import metrics
from boat.models import counts, examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions, Windows
from boat.models.fitting import Limits, Resumable, Trained, fit, refit
from boat.models.parameters import RecommendParameters
from boat.models.recommend_graph import RECOMMENDED
from boat.models.scores import DirectionScores, Scores

_FIRST_SHARE = 0.7  # of the time for the training that is validated
_TURN_PENALTY = 0.01  # sessions without a direction in them do better with little of it
_STEPS_AN_EPOCH, _SMALLEST_BATCH = 100, 32  # a small shop needs smaller steps to get anywhere in an epoch
_WARM_UP, _LEAST_RATE = 50, 0.05  # steps up to the learning rate; share of it that is left at the end
_LENGTH = 0.05  # of a product's embedding at first, per square root of its dimensions
_REFIT_RATE = 0.3  # of the learning rate: what is known shall not be upset
_SEEN_BONUS = 0.2  # while the training goes on; then the best of these
_SEEN_BONUSES = (0.0, 0.1, 0.2, 0.3, 0.4)
_VALIDATION_TARGETS = 5_000
_VALIDATION_BATCH = 500


@dataclass(frozen=True)
class TrainedNextItem:
    """A trained next-item model.

    Attributes:
        trained: Network, learning curve and figures.
        names: Product ids in the order of their codes, most frequent first.
        counts: How often each occurs, int64 [products].
        seen_bonus: What the cosine of a product that the session has seen is raised by.
    """

    trained: Trained
    names: np.ndarray
    counts: np.ndarray
    seen_bonus: float


class AttentionNetwork(keras.Model):  # type: ignore[misc]  # keras has no types
    """Turns windows of product codes into directions.

    Args:
        products: How many there are; codes run from 1, and 0 pads a window.
        parameters: Sizes and dropout.
    """

    def __init__(self, products: int, parameters: RecommendParameters) -> None:
        super().__init__()
        size, window = parameters.dimensions, parameters.window
        small = keras.initializers.RandomNormal(stddev=0.05)
        self.embedding = self.add_weight(name="embedding", shape=(products + 1, size), initializer=small)
        self.position = self.add_weight(name="position", shape=(window, size), initializer="zeros")
        self.recency = self.add_weight(name="recency", shape=(window,), initializer="zeros")
        self.key = keras.layers.Dense(size, name="key")
        self.query = keras.layers.Dense(size, use_bias=False, name="query")
        self.energy = keras.layers.Dense(1, use_bias=False, name="energy")
        # Without it, what follows a product and what leads to it would be equally near.
        self.turn = keras.layers.Dense(size, use_bias=False, kernel_initializer="zeros", name="turn")
        self.dropout = keras.layers.Dropout(parameters.dropout)

    def call(self, recent: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Windows, int32 [sessions, window], newest first, to unit vectors [sessions, dimensions].

        What comes out for an empty window has no meaning.
        """
        items = self.dropout(tf.gather(self.embedding, recent), training=training)
        last = items[:, 0]
        energy = self.energy(tf.tanh(self.key(items + self.position) + self.query(last)[:, None]))[:, :, 0]
        weights = tf.nn.softmax(tf.where(recent > 0, energy + self.recency, -1e9))
        pooled = tf.einsum("sw,swd->sd", weights, items)
        return tf.math.l2_normalize(last + pooled + self.turn(tf.concat([last, pooled], axis=1)), axis=1)

    def products(self, codes: tf.Tensor | None = None) -> tf.Tensor:
        """Unit vectors of some or all products, [products, dimensions]."""
        chosen = self.embedding[1:] if codes is None else tf.gather(self.embedding, codes)
        return tf.math.l2_normalize(chosen, axis=1)


def train(
    part: Sessions,
    validation: Sessions,
    both: Sessions,
    parameters: RecommendParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
) -> TrainedNextItem:
    """Train on one part until validation MRR@20 no longer rises, then go on for a little with both parts.

    Args:
        part: Sessions to train on.
        validation: Sessions that choose when to stop.
        both: The two together. Only they know the products of the newest days.
        parameters: Sizes, speed and limits.
        report: Called with the figures of each epoch of the first training.
        checkpoint: Where its state is kept after each epoch, and gone on from. What comes after it is begun anew.

    Raises:
        DataError: No examples in one of the parts.
    """
    names, _ = examples.vocabulary(part.strings("product_id"))
    seen, unseen = windows(part, names, parameters), windows(validation, names, parameters)
    if not len(seen.target) or not len(unseen.target):
        raise DataError(
            f"There are {len(seen.target)} examples to train on and {len(unseen.target)} to validate with.",
            "Take a snapshot of more days.",
        )
    judged = sample(unseen, parameters.seed)
    network, learning = prepare(seen, len(names), parameters)
    trained = fit(
        network,
        learning.step,
        learning.batches,
        lambda: validation_mrr(scores(network), judged, parameters),
        ("validation_mrr", "rises"),
        Limits(parameters.epochs, parameters.patience, parameters.max_seconds * _FIRST_SHARE),
        report,
        Resumable(network, learning.optimizer, [learning.draw], checkpoint),
    )
    by_bonus = {bonus: validation_mrr(scores(network, bonus), judged, parameters) for bonus in _SEEN_BONUSES}
    bonus = max(by_bonus, key=lambda each: by_bonus[each])
    trained.metrics["seen_bonus"] = bonus
    return _go_on(trained, names, both, parameters, bonus)


def prepare(seen: Windows, products: int, parameters: RecommendParameters) -> tuple[AttentionNetwork, "Learning"]:
    """A network that begins with what counts say, and how it learns from examples."""
    keras.utils.set_random_seed(parameters.seed)
    network = AttentionNetwork(products, parameters)
    network(seen.recent[:1])
    found = counts.directions(counts.followers(seen, products), parameters.dimensions, parameters.seed)
    network.embedding.assign(found * _LENGTH * np.sqrt(parameters.dimensions))
    return network, Learning(network, seen, parameters, parameters.learning_rate, parameters.epochs)


def _go_on(
    trained: Trained, names: np.ndarray, both: Sessions, parameters: RecommendParameters, bonus: float
) -> TrainedNextItem:
    all_names, frequency = examples.vocabulary(both.strings("product_id"))
    seen = windows(both, all_names, parameters)
    network = AttentionNetwork(len(all_names), parameters)
    network(seen.recent[:1])
    for new, old in zip(network.weights, trained.network.weights, strict=True):
        if new is not network.embedding:
            new.assign(old)
    embedding, old_codes = network.embedding.numpy(), examples.encode(all_names, names)
    embedding[1:][old_codes > 0] = trained.network.embedding.numpy()[old_codes[old_codes > 0]]
    network.embedding.assign(embedding)
    limits = Limits(parameters.refit_epochs, 0, parameters.max_seconds * (1 - _FIRST_SHARE))
    learning = Learning(network, seen, parameters, parameters.learning_rate * _REFIT_RATE, parameters.refit_epochs)
    figures = refit(learning.step, learning.batches, limits)
    metrics = {**trained.metrics, **figures}
    return TrainedNextItem(Trained(network, trained.curve, metrics), all_names, frequency, bonus)


def windows(part: Sessions, names: np.ndarray, parameters: RecommendParameters) -> Windows:
    """Examples of sessions, by codes."""
    return examples.windows(examples.encode(part.strings("product_id"), names), part.offsets, parameters.window)


class Learning:
    """Batches of examples, and a step on each."""

    def __init__(
        self, network: AttentionNetwork, windows: Windows, parameters: RecommendParameters, rate: float, epochs: int
    ) -> None:
        current = windows.recent[:, 0]
        wanted = (windows.target > 0) & (current > 0)
        if parameters.repeats == "drop":
            wanted &= windows.target != current
        self._examples = np.flatnonzero(wanted).astype(np.int32)
        most = max(_SMALLEST_BATCH, len(self._examples) // _STEPS_AN_EPOCH)
        self._size = min(parameters.batch_size, most, max(1, len(self._examples)))
        self._products = network.embedding.shape[0] - 1
        self._negatives = min(parameters.negatives, self._products)
        self.draw = np.random.default_rng(parameters.seed)
        steps = max(1, epochs) * max(1, len(self._examples) // self._size)
        warm_up = min(_WARM_UP, steps // 10)
        self.optimizer = keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(
                0.0 if warm_up else rate,
                steps,
                _LEAST_RATE,
                warmup_target=rate if warm_up else None,
                warmup_steps=warm_up,
            )
        )
        self._step = _step(network, self.optimizer, windows, parameters)

    def batches(self) -> Iterator[np.ndarray]:
        """One epoch; what does not fill a batch is left to the next one."""
        shuffled = self.draw.permutation(self._examples)
        return (shuffled[at : at + self._size] for at in range(0, len(shuffled) - self._size + 1, self._size))

    def step(self, batch: np.ndarray) -> tf.Tensor:
        """Hold the right products against drawn ones, or against all where there are few; returns the loss."""
        if self._negatives == self._products:
            drawn = np.arange(self._products)
        else:
            drawn = self.draw.integers(self._products, size=self._negatives)
        return self._step(batch, (drawn + 1).astype(np.int32))


def _step(
    network: AttentionNetwork, optimizer: keras.Optimizer, windows: Windows, parameters: RecommendParameters
) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    recent, target = tf.constant(windows.recent), tf.constant(windows.target)
    products = network.embedding.shape[0] - 1

    def loss(batch: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        seen, wanted = tf.gather(recent, batch), tf.gather(target, batch)
        directions = network(seen, training=True)
        right = parameters.scale * tf.reduce_sum(directions * network.products(wanted), axis=1)
        wrong = parameters.scale * tf.matmul(directions, network.products(drawn), transpose_b=True)
        # Each product drawn stands for as many as were not.
        wrong += np.log(products / drawn.shape[0]).astype(np.float32)
        left_out = drawn == wanted[:, None]
        if parameters.repeats == "drop":
            left_out |= drawn == seen[:, :1]
        logits = tf.concat([right[:, None], tf.where(left_out, -1e9, wrong)], axis=1)
        losses = tf.reduce_logsumexp(logits, axis=1) - right
        return tf.reduce_mean(losses) + _TURN_PENALTY * tf.reduce_sum(tf.square(network.turn.kernel))

    @tf.function  # type: ignore[untyped-decorator]
    def step(batch: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(batch, drawn)
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(value, network.trainable_variables)]
        optimizer.apply(gradients, network.trainable_variables)
        return value

    return lambda batch, drawn: step(tf.constant(batch), tf.constant(drawn))


def sample(validation: Windows, seed: int) -> Windows:
    """As many examples as are enough to validate with, by a fixed draw."""
    if len(validation.target) <= _VALIDATION_TARGETS:
        return validation
    chosen = np.random.default_rng(seed).choice(len(validation.target), _VALIDATION_TARGETS, replace=False)
    return Windows(validation.recent[chosen], validation.target[chosen])


def scores(network: AttentionNetwork, seen_bonus: float = _SEEN_BONUS) -> DirectionScores:
    """What a network stands for, as it is."""
    return DirectionScores(network, network.products().numpy(), seen_bonus)


def validation_mrr(model: Scores, validation: Windows, parameters: RecommendParameters) -> float:
    """MRR@20 as the exported model will have it: a session of unknown products gets the most popular."""
    found = [
        _ranks(
            model(tf.constant(validation.recent[at : at + _VALIDATION_BATCH])).numpy(),
            validation.recent[at : at + _VALIDATION_BATCH, 0],
            validation.target[at : at + _VALIDATION_BATCH],
            parameters.repeats == "keep",
        )
        for at in range(0, len(validation.target), _VALIDATION_BATCH)
    ]
    return float(np.mean(metrics.reciprocal_ranks(np.concatenate(found), RECOMMENDED)))


def _ranks(scores: np.ndarray, current: np.ndarray, target: np.ndarray, repeats: bool) -> np.ndarray:
    rows = np.arange(len(target))
    if not repeats:
        scores[rows[current > 0], current[current > 0] - 1] = -np.inf
    wanted = scores[rows, np.maximum(target - 1, 0)]
    place = np.where(current > 0, (scores >= wanted[:, None]).sum(axis=1), target)
    return np.where((target > 0) & (repeats | (target != current)), place, np.inf)
