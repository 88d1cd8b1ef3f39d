"""The training loop that both models share: epochs, early stopping, a limit in seconds, the best weights."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from boat.models.checkpoint import Checkpoint, State


@dataclass(frozen=True)
class Limits:
    """When a training ends, whichever comes first."""

    epochs: int
    patience: int
    max_seconds: float


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        network: The network, with the weights of its best epoch.
        curve: The figures of each epoch.
        metrics: The figures of the best epoch and `train_seconds`.
    """

    network: keras.Model
    curve: list[dict[str, float]]
    metrics: dict[str, float]


@dataclass
class _Progress:
    curve: list[dict[str, float]] = field(default_factory=list)
    best: int = -1
    best_value: float = float("-inf")
    seconds: float = 0.0
    over: bool = False


class Resumable:
    """A training's state between two epochs: what `Checkpoint` keeps.

    Args:
        network: Its variables, with those of its random layers.
        optimizer: Its variables.
        draws: Random generators that batches come from.
        checkpoint: Where the state is kept; None keeps it nowhere.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.Optimizer,
        draws: Sequence[np.random.Generator],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._network, self._optimizer, self._draws, self._checkpoint = network, optimizer, draws, checkpoint

    def save(self, progress: _Progress, best_weights: Sequence[np.ndarray]) -> None:
        """Keep the state after an epoch."""
        if self._checkpoint is None:
            return
        arrays = {
            "network": [variable.numpy() for variable in self._network.variables],
            "optimizer": [variable.numpy() for variable in self._optimizer.variables],
            "best": list(best_weights),
        }
        draws = [draw.bit_generator.state for draw in self._draws]
        self._checkpoint.save(State(arrays, {**asdict(progress), "draws": draws}))

    def restore(self) -> tuple[_Progress, Sequence[np.ndarray]]:
        """Progress, and the weights of the best epoch; those of a training that has not begun where none is kept."""
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return _Progress(), self._network.get_weights()
        self._optimizer.build(self._network.trainable_variables)
        for group, variables in (("network", self._network.variables), ("optimizer", self._optimizer.variables)):
            for variable, value in zip(variables, state.arrays[group], strict=True):
                variable.assign(value)
        progress: dict[str, Any] = dict(state.progress)
        for draw, kept in zip(self._draws, progress.pop("draws"), strict=True):
            draw.bit_generator.state = kept
        return _Progress(**progress), state.arrays["best"]


def fit(
    network: keras.Model,
    step: Callable[[np.ndarray], tf.Tensor],
    batches: Callable[[], Iterable[np.ndarray]],
    validate: Callable[[], float],
    figure: tuple[str, Literal["rises", "falls"]],
    limits: Limits,
    report: Callable[[Mapping[str, float]], None],
    resumable: Resumable,
) -> Trained:
    """Train epoch after epoch until the validation figure gets no better or a limit is reached.

    Args:
        network: Trained in place.
        step: One step on a batch; returns its loss.
        batches: The batches of one epoch, each an array of examples.
        validate: The validation figure of the network as it is.
        figure: Its name, and where it moves when the network gets better.
        limits: When to end. A first epoch is cut short too, but not its first step.
        report: Called with the figures of each epoch.
        resumable: Where an interrupted training goes on from; its limits count what it had already.
    """
    name, direction = figure
    progress, best_weights = resumable.restore()
    began = time.monotonic() - progress.seconds
    while not progress.over:
        curve = progress.curve
        loss, speed = _epoch(step, batches(), began + limits.max_seconds)
        figures = {"epoch": len(curve) + 1, "loss": loss, name: validate(), "events_per_second": round(speed)}
        progress.seconds = time.monotonic() - began
        curve.append({**figures, "seconds": round(progress.seconds, 2)})
        value = figures[name] if direction == "rises" else -figures[name]
        if value > progress.best_value:
            progress.best, progress.best_value, best_weights = len(curve) - 1, value, network.get_weights()
        stale = len(curve) - 1 - progress.best >= limits.patience
        progress.over = len(curve) >= limits.epochs or stale or progress.seconds > limits.max_seconds
        resumable.save(progress, best_weights)
        report(curve[-1])
    network.set_weights(best_weights)
    best = progress.curve[progress.best]
    figures = {"best_epoch": best["epoch"], "loss": best["loss"], name: best[name]}
    return Trained(network, progress.curve, {**figures, "train_seconds": round(progress.seconds, 2)})


def refit(
    step: Callable[[np.ndarray], tf.Tensor], batches: Callable[[], Iterable[np.ndarray]], limits: Limits
) -> dict[str, float]:
    """Train a given number of epochs, as far as the time allows, with nothing held back to validate.

    Returns:
        `refit_loss` of the last epoch, and `refit_seconds`.
    """
    began = time.monotonic()
    loss = float("nan")
    for _ in range(limits.epochs):
        loss, _speed = _epoch(step, batches(), began + limits.max_seconds)
        if time.monotonic() - began > limits.max_seconds:
            break
    return {"refit_loss": loss, "refit_seconds": round(time.monotonic() - began, 2)}


def _epoch(
    step: Callable[[np.ndarray], tf.Tensor], batches: Iterable[np.ndarray], deadline: float
) -> tuple[float, float]:
    """Mean loss, and examples a second."""
    began, seen, losses = time.monotonic(), 0, []
    for batch in batches:
        losses.append(float(step(batch)))
        seen += len(batch)
        if time.monotonic() > deadline:
            break
    return float(np.mean(losses)), seen / (time.monotonic() - began)
