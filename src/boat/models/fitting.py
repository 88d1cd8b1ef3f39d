"""The training loop of all networks: epochs, early stopping, a limit in seconds, the best weights."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from boat.models.checkpoint import Checkpoint, TrainingState
from boat.progress import report as report_progress


@dataclass(frozen=True)
class Limits:
    """Limits of a training, which ends at the first limit that it reaches."""

    epochs: int
    patience: int
    max_seconds: float


@dataclass(frozen=True)
class Trained:
    """Result of a training.

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
    """A training whose state is saved between two epochs, and restored.

    Args:
        network: Network whose variables are saved, including the variables of its random layers.
        optimizer: Optimizer whose variables are saved.
        draws: Random generators of the batches.
        checkpoint: File of the state. `None`: the state is not saved.
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
        """Save the state after an epoch."""
        if self._checkpoint is None:
            return
        arrays = {
            "network": [variable.numpy() for variable in self._network.variables],
            "optimizer": [variable.numpy() for variable in self._optimizer.variables],
            "best": list(best_weights),
        }
        draws = [draw.bit_generator.state for draw in self._draws]
        self._checkpoint.save(TrainingState(arrays, {**asdict(progress), "draws": draws}))

    def restore(self) -> tuple[_Progress, Sequence[np.ndarray]]:
        """Return the progress and the weights of the best epoch. Without a saved state, return the initial ones."""
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return _Progress(), self._network.get_weights()
        self._optimizer.build(self._network.trainable_variables)
        for group, variables in (("network", self._network.variables), ("optimizer", self._optimizer.variables)):
            for variable, value in zip(variables, state.arrays[group], strict=True):
                variable.assign(value)
        progress: dict[str, Any] = dict(state.progress)
        for draw, draw_state in zip(self._draws, progress.pop("draws"), strict=True):
            draw.bit_generator.state = draw_state
        return _Progress(**progress), state.arrays["best"]


def fit(
    network: keras.Model,
    step: Callable[[np.ndarray], tf.Tensor],
    batches: Callable[[], Sequence[np.ndarray]],
    validate: Callable[[], float],
    figure: tuple[str, Literal["rises", "falls"]],
    limits: Limits,
    report: Callable[[Mapping[str, float]], None],
    resumable: Resumable,
) -> Trained:
    """Train epoch after epoch until the validation figure stops improving or a limit is reached.

    Args:
        network: Network to train in place.
        step: Function that trains on a batch and returns its loss.
        batches: Function that returns the batches of one epoch, arrays of example numbers.
        validate: Function that returns the validation figure of the current network.
        figure: Name of the validation figure, and whether it rises or falls when the network improves.
        limits: Limits of the training. Also the first epoch ends at the time limit, after at least one step.
        report: Function that receives the figures of each epoch.
        resumable: State of an interrupted training. Its epochs and seconds count towards the limits.
    """
    name, direction = figure
    progress, best_weights = resumable.restore()
    began = time.monotonic() - progress.seconds
    while not progress.over:
        curve = progress.curve
        stage = f"epoch {len(curve) + 1} of at most {limits.epochs}"
        loss, speed = _epoch(step, batches(), began + limits.max_seconds, stage)
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


def run_epochs(
    step: Callable[[np.ndarray], tf.Tensor], batches: Callable[[], Sequence[np.ndarray]], limits: Limits
) -> dict[str, float]:
    """Train up to `limits.epochs` epochs within the time limit, without validation.

    Returns:
        `refit_loss` of the last epoch, and `refit_seconds`.
    """
    began = time.monotonic()
    loss = float("nan")
    for epoch in range(limits.epochs):
        stage = f"epoch {epoch + 1} of {limits.epochs} with the newest days"
        loss, _speed = _epoch(step, batches(), began + limits.max_seconds, stage)
        if time.monotonic() - began > limits.max_seconds:
            break
    return {"refit_loss": loss, "refit_seconds": round(time.monotonic() - began, 2)}


def _epoch(
    step: Callable[[np.ndarray], tf.Tensor], batches: Sequence[np.ndarray], deadline: float, stage: str
) -> tuple[float, float]:
    """Train one epoch and return the mean loss and the examples per second."""
    began, examples, losses = time.monotonic(), 0, []
    total = sum(map(len, batches))
    for batch in batches:
        report_progress(stage, examples, total, "examples")
        losses.append(float(step(batch)))
        examples += len(batch)
        if time.monotonic() > deadline:
            break
    return float(np.mean(losses)), examples / (time.monotonic() - began)
