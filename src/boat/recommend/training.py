"""Train recommendation models with a neural network.

Each product has a direction, and so has a session. Products with the nearest directions are recommended; a bonus moves
products that the session has already viewed. The network is trained on every prefix of every session, against randomly
drawn products. Training starts from directions that are computed from counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from boat import metrics, progress
from boat.errors import DataError
from boat.models import examples
from boat.models.checkpoint import Checkpoint
from boat.models.examples import Examples, Sessions, Windows
from boat.models.fitting import Limits, Resumable, Trained, fit, run_epochs
from boat.models.warm_start import WarmStart, arrays_of
from boat.recommend import blend, catalogue, counts
from boat.recommend.catalogue import Catalogue
from boat.recommend.graph import RECOMMENDED
from boat.recommend.networks import SessionNetwork
from boat.recommend.parameters import RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS
from boat.recommend.scores import BlendScores, DirectionScores, Scores

_FIRST_SHARE = 0.7  # share of the time for the training that is validated
_STEPS_AN_EPOCH, _SMALLEST_BATCH = 100, 32  # a small shop needs smaller batches, so that an epoch has enough steps
_WARM_UP, _LEAST_RATE = 50, 0.05  # steps up to the learning rate; its share at the end
_LENGTH = 0.05  # initial length of an embedding, per square root of its dimensions
_VALIDATION_TARGETS = 5_000
_VALIDATION_BATCH = 500

Count = Callable[[Sessions, np.ndarray, np.ndarray, RecommendParameters], Scores]
"""Builds scores from sessions, products in the order of their codes, and the frequency of each product."""


@dataclass(frozen=True)
class TrainedNextItem:
    """A trained recommendation model.

    Attributes:
        trained: Network, learning curve and metrics.
        names: Product ids in the order of their codes: most frequent first, products without views last.
        counts: Frequency of each viewed product, int64 [viewed products].
        scores: The part that is exported.
        most_similar: Code of the most similar viewed product for each unviewed one, int32 [unviewed products].
        warm_start: The start of a later fit; see `refit`.
    """

    trained: Trained
    names: np.ndarray
    counts: np.ndarray
    scores: Scores
    most_similar: np.ndarray
    warm_start: WarmStart


def train(
    part: Sessions,
    validation: Sessions,
    all_sessions: Sessions,
    parameters: RecommendParameters,
    report: Callable[[Mapping[str, float]], None],
    checkpoint: Checkpoint | None = None,
    counted: Mapping[str, Count] | None = None,
    described: Catalogue = catalogue.EMPTY,
) -> TrainedNextItem:
    """Train on one part until validation MRR@20 stops rising, then continue briefly on both parts.

    Args:
        part: Sessions to train on.
        validation: Sessions that choose when to stop, and the weights of counted scores.
        all_sessions: Both parts together. They contain the products of the newest days.
        parameters: Sizes, learning rate and limits.
        report: Called with the metrics of each epoch of the first training.
        checkpoint: State after each epoch, from which training resumes. Later steps start again.
        counted: Builders of counted scores that are added to the network, by name.
        described: Description vectors of the catalogue, which allow recommending products without views.

    Raises:
        DataError: One of the parts has no examples.
    """
    names, frequency = part.vocabulary("product_id")
    learned, unseen = targets(part, names), targets(validation, names, with_pages=True)
    if not len(learned) or not len(unseen):
        raise DataError(
            f"The snapshot has {len(learned)} examples for training and {len(unseen)} for validation.",
            "Increase `days` of `retrain`, or load events of more days.",
        )
    sample = validation_sample(unseen, parameters)
    network, learning = prepare(learned, len(names), parameters)
    trained = fit(
        network,
        learning.step,
        learning.batches,
        lambda: validation_mrr(scores(network, _mix(network, [], sample, parameters)), sample, parameters),
        ("validation_mrr", "rises"),
        Limits(parameters.epochs, parameters.patience, parameters.max_seconds * _FIRST_SHARE),
        report,
        Resumable(network, learning.optimizer, [learning.draw], checkpoint),
    )
    counted = counted or {}
    progress.report("counting for the blend")
    counted_scores = [count(part, names, frequency, parameters) for count in counted.values()]
    mix = _mix(network, counted_scores, sample, parameters)
    trained.metrics["validation_mrr"] = validation_mrr(scores(network, mix, counted_scores), sample, parameters)
    trained.metrics.update({f"weight_{name}": weight for name, weight in zip(counted, mix.weights, strict=True)})
    validated = _warm_start(network, names, parameters, mix, list(counted))
    refitted = refit(validated, all_sessions, parameters, counted, described)
    figures = Trained(refitted.trained.network, trained.curve, {**trained.metrics, **refitted.trained.metrics})
    return replace(refitted, trained=figures)


def refit(
    warm_start: WarmStart,
    sessions: Sessions,
    parameters: RecommendParameters,
    counted: Mapping[str, Count],
    described: Catalogue = catalogue.EMPTY,
) -> TrainedNextItem:
    """Continue a trained network on more sessions, without validation, and count them.

    Args:
        warm_start: The trained network, its products, and the weights of the blend.
        sessions: All sessions to learn from. Products that the network does not know get new weights.
        parameters: Sizes, learning rate and number of epochs.
        counted: Builders of counted scores, by name; those of the warm start are used.
        described: Description vectors of the catalogue.
    """
    progress.report("reading the newest days")
    names, frequency = sessions.vocabulary("product_id")
    learned = targets(sessions, names)
    network = _initialised(learned, len(names), parameters)
    _restore(network, names, warm_start)
    learning = Learning(network, learned, parameters, parameters.learning_rate, parameters.refit_epochs)
    limits = Limits(parameters.refit_epochs, 0, parameters.max_seconds * (1 - _FIRST_SHARE))
    figures = run_epochs(learning.step, learning.batches, limits)
    progress.report("counting for the blend, with the newest days")
    mix = blend.Mix(tuple(warm_start.choices["weights"]), warm_start.arrays["bonuses"])
    chosen = list(warm_start.choices["counted"])
    counted_scores = [counted[name](sessions, names, frequency, parameters) for name in chosen]
    unviewed = catalogue.unviewed(described, names, network.products().numpy())
    if len(described.names):
        figures |= {"unviewed_products": len(unviewed.names), "vectors_left_out": described.left_out}
    return TrainedNextItem(
        Trained(network, [], figures),
        np.append(names, unviewed.names),
        frequency,
        scores(network, mix, counted_scores, unviewed.directions),
        unviewed.most_similar,
        _warm_start(network, names, parameters, mix, chosen),
    )


def _warm_start(
    network: SessionNetwork, names: np.ndarray, parameters: RecommendParameters, mix: blend.Mix, counted: Sequence[str]
) -> WarmStart:
    return WarmStart(
        parameters.model,
        {"names": names.astype(str), "bonuses": mix.bonuses, **arrays_of(network)},
        {"weights": list(mix.weights), "counted": list(counted)},
    )


def _restore(network: SessionNetwork, names: np.ndarray, warm_start: WarmStart) -> None:
    """Set the weights of a network. Rows of products are looked up by name; a new product keeps its initial row."""
    old_names = warm_start.arrays["names"].astype(object)
    old_codes = np.append(0, examples.encode(names, old_names))
    for weight, old in zip(network.weights, warm_start.weights, strict=True):
        if weight.name in network.tables:
            table = weight.numpy()
            table[old_codes > 0] = old[old_codes[old_codes > 0]]
            weight.assign(table)
        else:
            weight.assign(old)


def prepare(learned: Examples, products: int, parameters: RecommendParameters) -> tuple[SessionNetwork, "Learning"]:
    """Build a network that starts from counts, and its learning on examples."""
    keras.utils.set_random_seed(parameters.seed)
    progress.report("counting which products follow each other")
    network = _initialised(learned, products, parameters)
    follows = counts.followers(learned, products)
    progress.report("computing the first directions from the counts")
    initial = counts.directions(follows, parameters.dimensions, parameters.seed)
    network.embedding.assign(initial * _LENGTH * np.sqrt(parameters.dimensions))
    return network, Learning(network, learned, parameters, parameters.learning_rate, parameters.epochs)


def _initialised(learned: Examples, products: int, parameters: RecommendParameters) -> SessionNetwork:
    network: SessionNetwork = RECOMMENDERS[parameters.model].load()(products, parameters)
    network(learned.at(slice(1), parameters.window).recent)
    return network


def _mix(
    network: SessionNetwork,
    counted_scores: Sequence[Scores],
    sample: Windows,
    parameters: RecommendParameters,
) -> blend.Mix:
    directions = DirectionScores(network, network.products().numpy())
    return blend.choose(directions, counted_scores, sample, parameters.repeats == "keep")


def targets(part: Sessions, names: np.ndarray, with_pages: bool = False) -> Examples:
    """Return the examples of sessions, as codes."""
    pages = part.pages if with_pages else None
    return Examples(part.codes("product_id", names), part.offsets, pages)


class Learning:
    """Batches of examples, and a training step for each.

    Args:
        network: The network to train.
        learned: Its examples.
        parameters: Batch size and number of drawn products.
        rate: Learning rate.
        epochs: Number of epochs.
    """

    def __init__(
        self, network: SessionNetwork, learned: Examples, parameters: RecommendParameters, rate: float, epochs: int
    ) -> None:
        current = learned.before(1)
        usable = (learned.target > 0) & (current > 0)
        if parameters.repeats == "drop":
            usable &= learned.target != current
        self._learned, self._window = learned, parameters.window
        self._examples = np.flatnonzero(usable).astype(np.int32)
        largest = max(_SMALLEST_BATCH, len(self._examples) // _STEPS_AN_EPOCH)
        self._size = min(parameters.batch_size, largest, max(1, len(self._examples)))
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
        self._step = _step(network, self.optimizer, parameters)

    def batches(self) -> Sequence[np.ndarray]:
        """Return the batches of one epoch, without the rest that does not fill a batch."""
        shuffled = self.draw.permutation(self._examples)
        return [shuffled[at : at + self._size] for at in range(0, len(shuffled) - self._size + 1, self._size)]

    def step(self, batch: np.ndarray) -> tf.Tensor:
        """Train on a batch: compare targets with drawn products, or with all if there are few. Return the loss."""
        if self._negatives == self._products:
            drawn = np.arange(self._products)
        else:
            drawn = self.draw.integers(self._products, size=self._negatives)
        recent, target, _ = self._learned.at(batch, self._window)
        return self._step(recent, target, (drawn + 1).astype(np.int32))


def _step(
    network: SessionNetwork, optimizer: keras.Optimizer, parameters: RecommendParameters
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], tf.Tensor]:
    products = network.embedding.shape[0] - 1

    def loss(recent: tf.Tensor, target: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        directions, targets, viewed = network.questions(recent, target)
        target_logits = parameters.scale * tf.reduce_sum(directions * network.answers(targets), axis=1)
        drawn_logits = parameters.scale * tf.matmul(directions, network.answers(drawn), transpose_b=True)
        # Each drawn product represents several that were not drawn.
        drawn_logits += np.log(products / drawn.shape[0]).astype(np.float32)
        # Repeats depend on the habits of a shop and not on directions: `blend.choose` handles them.
        excluded_codes = tf.concat([targets[:, None], viewed], axis=1)
        is_excluded = tf.reduce_any(drawn == excluded_codes[:, :, None], axis=1)
        logits = tf.concat([target_logits[:, None], tf.where(is_excluded, -1e9, drawn_logits)], axis=1)
        return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - target_logits) + network.penalty()

    @tf.function  # type: ignore[untyped-decorator]
    def step(recent: tf.Tensor, target: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(recent, target, drawn)
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(value, network.trainable_variables)]
        optimizer.apply(gradients, network.trainable_variables)
        return value

    return lambda *batch: step(*map(tf.constant, batch))


def validation_sample(unseen: Examples, parameters: RecommendParameters) -> Windows:
    """Return the windows of all examples, or of a seeded sample that is large enough for validation."""
    rows: slice | np.ndarray = slice(None)
    if len(unseen) > _VALIDATION_TARGETS:
        rows = np.random.default_rng(parameters.seed).choice(len(unseen), _VALIDATION_TARGETS, replace=False)
    return unseen.at(rows, parameters.window)


def scores(
    network: SessionNetwork, mix: blend.Mix, counted_scores: Sequence[Scores] = (), unviewed: np.ndarray | None = None
) -> BlendScores:
    """Build the scores of a network with counted scores and directions of unviewed products."""
    products = network.products().numpy()
    unviewed_directions = products[:0] if unviewed is None else unviewed
    directions = DirectionScores(network, np.vstack([products, unviewed_directions]))
    return BlendScores(directions, counted_scores, mix.weights, mix.bonuses, len(unviewed_directions))


def validation_mrr(model: Scores, validation: Windows, parameters: RecommendParameters) -> float:
    """Compute MRR@20 of the exported model, which recommends popular products for unknown ones."""
    batches = [
        validation.at(slice(at, at + _VALIDATION_BATCH)) for at in range(0, len(validation.target), _VALIDATION_BATCH)
    ]
    all_ranks = [
        _ranks(_scores_of(model, batch), batch.recent[:, 0], batch.target, parameters.repeats == "keep")
        for batch in batches
    ]
    return float(np.mean(metrics.reciprocal_ranks(np.concatenate(all_ranks), RECOMMENDED)))


def _scores_of(model: Scores, batch: Windows) -> np.ndarray:
    page = None if batch.page is None else tf.constant(batch.page)
    values: np.ndarray = model(tf.constant(batch.recent), page).numpy()
    return values


def _ranks(scores: np.ndarray, current: np.ndarray, target: np.ndarray, repeats: bool) -> np.ndarray:
    rows = np.arange(len(target))
    if not repeats:
        scores[rows[current > 0], current[current > 0] - 1] = -np.inf
    target_scores = scores[rows, np.maximum(target - 1, 0)]
    rank = np.where(current > 0, (scores >= target_scores[:, None]).sum(axis=1), target)
    return np.where((target > 0) & (repeats | (target != current)), rank, np.inf)
