"""Next-item models with a network in them: what a session's last products say about the one to come.

Each product is a direction, and so is a session; products whose directions are nearest are recommended, and those that
the session has seen before are a little nearer. Trained on every prefix of every session, against products drawn at
random; a training begins with the directions that plain counts give.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from boat import metrics
from boat.errors import DataError
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Sessions, Windows
from boat.models.fitting import Limits, Resumable, Trained, fit, refit
from boat.recommend import blend, catalogue, counts
from boat.recommend.catalogue import Catalogue
from boat.recommend.graph import RECOMMENDED
from boat.recommend.networks import SessionNetwork
from boat.recommend.parameters import RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS
from boat.recommend.scores import BlendScores, DirectionScores, Scores

_FIRST_SHARE = 0.7  # of the time for the training that is validated
_STEPS_AN_EPOCH, _SMALLEST_BATCH = 100, 32  # a small shop needs smaller steps to get anywhere in an epoch
_WARM_UP, _LEAST_RATE = 50, 0.05  # steps up to the learning rate; share of it that is left at the end
_LENGTH = 0.05  # of a product's embedding at first, per square root of its dimensions
_VALIDATION_TARGETS = 5_000
_VALIDATION_BATCH = 500

Count = Callable[[Sessions, np.ndarray, np.ndarray, RecommendParameters], Scores]
"""Counts sessions, given the products in the order of their codes and how often each occurs."""


@dataclass(frozen=True)
class TrainedNextItem:
    """A trained next-item model.

    Attributes:
        trained: Network, learning curve and figures.
        names: Product ids in the order of their codes, most frequent first, those that nobody has viewed last.
        counts: How often each of the others occurs, int64 [viewed products].
        scores: What is exported.
        likest: Code of the viewed product that each unviewed one is most like, int32 [unviewed products].
    """

    trained: Trained
    names: np.ndarray
    counts: np.ndarray
    scores: Scores
    likest: np.ndarray


def train(
    part: Sessions,
    validation: Sessions,
    both: Sessions,
    parameters: RecommendParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
    beside: Mapping[str, Count] | None = None,
    described: Catalogue = catalogue.EMPTY,
) -> TrainedNextItem:
    """Train on one part until validation MRR@20 no longer rises, then go on for a little with both parts.

    Args:
        part: Sessions to train on.
        validation: Sessions that choose when to stop, and how much what is counted adds to the network.
        both: The two together. Only they know the products of the newest days.
        parameters: Sizes, speed and limits.
        report: Called with the figures of each epoch of the first training.
        checkpoint: Where its state is kept after each epoch, and gone on from. What comes after it is begun anew.
        beside: What is counted beside the network, by name.
        described: What the shop says of its products, so that those can be recommended that nobody has viewed.

    Raises:
        DataError: No examples in one of the parts.
    """
    names, frequency = examples.vocabulary(part.strings("product_id"))
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
        lambda: validation_mrr(scores(network, _mix(network, [], judged, parameters)), judged, parameters),
        ("validation_mrr", "rises"),
        Limits(parameters.epochs, parameters.patience, parameters.max_seconds * _FIRST_SHARE),
        report,
        Resumable(network, learning.optimizer, [learning.draw], checkpoint),
    )
    beside = beside or {}
    others = [count(part, names, frequency, parameters) for count in beside.values()]
    mix = _mix(network, others, judged, parameters)
    trained.metrics["validation_mrr"] = validation_mrr(scores(network, mix, others), judged, parameters)
    trained.metrics.update({f"weight_{name}": weight for name, weight in zip(beside, mix.weights, strict=True)})
    return _go_on(trained, names, both, parameters, mix, list(beside.values()), described)


def prepare(seen: Windows, products: int, parameters: RecommendParameters) -> tuple[SessionNetwork, "Learning"]:
    """A network that begins with what counts say, and how it learns from examples."""
    keras.utils.set_random_seed(parameters.seed)
    network = _built(seen, products, parameters)
    found = counts.directions(counts.followers(seen, products), parameters.dimensions, parameters.seed)
    network.embedding.assign(found * _LENGTH * np.sqrt(parameters.dimensions))
    return network, Learning(network, seen, parameters, parameters.learning_rate, parameters.epochs)


def _built(seen: Windows, products: int, parameters: RecommendParameters) -> SessionNetwork:
    network: SessionNetwork = RECOMMENDERS[parameters.model].load()(products, parameters)
    network(seen.recent[:1])
    return network


def _mix(
    network: SessionNetwork, others: Sequence[Scores], judged: Windows, parameters: RecommendParameters
) -> blend.Mix:
    directions = DirectionScores(network, network.products().numpy())
    return blend.choose(directions, others, judged, parameters.repeats == "keep")


def _go_on(
    trained: Trained,
    names: np.ndarray,
    both: Sessions,
    parameters: RecommendParameters,
    mix: blend.Mix,
    beside: Sequence[Count],
    described: Catalogue,
) -> TrainedNextItem:
    all_names, frequency = examples.vocabulary(both.strings("product_id"))
    seen = windows(both, all_names, parameters)
    network = _built(seen, len(all_names), parameters)
    old_codes = np.append(0, examples.encode(all_names, names))
    for new, old in zip(network.weights, trained.network.weights, strict=True):
        if old.shape[0] != len(names) + 1:
            new.assign(old)
            continue
        table = new.numpy()
        table[old_codes > 0] = old.numpy()[old_codes[old_codes > 0]]
        new.assign(table)
    limits = Limits(parameters.refit_epochs, 0, parameters.max_seconds * (1 - _FIRST_SHARE))
    learning = Learning(network, seen, parameters, parameters.learning_rate, parameters.refit_epochs)
    figures = refit(learning.step, learning.batches, limits)
    metrics = {**trained.metrics, **figures}
    others = [count(both, all_names, frequency, parameters) for count in beside]
    products = network.products().numpy()
    unviewed = catalogue.unviewed(described, all_names, products)
    if len(described.names):
        metrics |= {"unviewed_products": len(unviewed.names), "vectors_left_out": described.left_out}
    return TrainedNextItem(
        Trained(network, trained.curve, metrics),
        np.append(all_names, unviewed.names),
        frequency,
        scores(network, mix, others, unviewed.directions),
        unviewed.likest,
    )


def windows(part: Sessions, names: np.ndarray, parameters: RecommendParameters) -> Windows:
    """Examples of sessions, by codes."""
    found = examples.windows(examples.encode(part.strings("product_id"), names), part.offsets, parameters.window)
    return found._replace(page=examples.pages_before_targets(part))


class Learning:
    """Batches of examples, and a step on each."""

    def __init__(
        self, network: SessionNetwork, windows: Windows, parameters: RecommendParameters, rate: float, epochs: int
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
    network: SessionNetwork, optimizer: keras.Optimizer, windows: Windows, parameters: RecommendParameters
) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    recent, target = tf.constant(windows.recent), tf.constant(windows.target)
    products = network.embedding.shape[0] - 1

    def loss(batch: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        directions, wanted, seen = network.ask(tf.gather(recent, batch), tf.gather(target, batch))
        right = parameters.scale * tf.reduce_sum(directions * network.answers(wanted), axis=1)
        wrong = parameters.scale * tf.matmul(directions, network.answers(drawn), transpose_b=True)
        # Each product drawn stands for as many as were not.
        wrong += np.log(products / drawn.shape[0]).astype(np.float32)
        # Whether what was seen comes again is a matter of habit, not of direction: `blend.choose` sees to it.
        known = tf.concat([wanted[:, None], seen], axis=1)
        left_out = tf.reduce_any(drawn == known[:, :, None], axis=1)
        logits = tf.concat([right[:, None], tf.where(left_out, -1e9, wrong)], axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - right) + network.penalty()

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
    return validation.at(chosen)


def scores(
    network: SessionNetwork, mix: blend.Mix, others: Sequence[Scores] = (), unviewed: np.ndarray | None = None
) -> BlendScores:
    """What a network stands for, as it is, with what is counted beside it, and directions of unviewed products."""
    products = network.products().numpy()
    new = products[:0] if unviewed is None else unviewed
    directions = DirectionScores(network, np.vstack([products, new]))
    return BlendScores(directions, others, mix.weights, mix.seen, len(new))


def validation_mrr(model: Scores, validation: Windows, parameters: RecommendParameters) -> float:
    """MRR@20 as the exported model will have it: a session of unknown products gets the most popular."""
    batches = [
        validation.at(slice(at, at + _VALIDATION_BATCH)) for at in range(0, len(validation.target), _VALIDATION_BATCH)
    ]
    found = [
        _ranks(_said(model, batch), batch.recent[:, 0], batch.target, parameters.repeats == "keep") for batch in batches
    ]
    return float(np.mean(metrics.reciprocal_ranks(np.concatenate(found), RECOMMENDED)))


def _said(model: Scores, batch: Windows) -> np.ndarray:
    page = None if batch.page is None else tf.constant(batch.page)
    said: np.ndarray = model(tf.constant(batch.recent), page).numpy()
    return said


def _ranks(scores: np.ndarray, current: np.ndarray, target: np.ndarray, repeats: bool) -> np.ndarray:
    rows = np.arange(len(target))
    if not repeats:
        scores[rows[current > 0], current[current > 0] - 1] = -np.inf
    wanted = scores[rows, np.maximum(target - 1, 0)]
    place = np.where(current > 0, (scores >= wanted[:, None]).sum(axis=1), target)
    return np.where((target > 0) & (repeats | (target != current)), place, np.inf)
