"""A fitted model of any kind, ready for export."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

Report = Callable[[Mapping[str, float]], None]
"""Receives the metrics of each epoch."""


@dataclass(frozen=True)
class FittedModel:
    """A fitted model, ready for export.

    Attributes:
        graph: The model; its function `serve` is the signature.
        model: Its name in its family; never `auto`.
        outputs: Names and types of the signature's outputs.
        curve: The metrics of each epoch; one row if there are no epochs.
        metrics: Validation metrics, `train_seconds` and more.
        products: Number of products in its vocabulary; 0 for a model without products.
    """

    graph: "tf.Module"
    model: str
    outputs: Mapping[str, str]
    curve: list[dict[str, float]]
    metrics: dict[str, float]
    products: int = 0
