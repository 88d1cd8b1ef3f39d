"""A fitted model of any kind, ready for export."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf

    from boat.models.warm_start import WarmStart

Report = Callable[[Mapping[str, float]], None]
"""Receives the metrics of each epoch."""


class Learned(NamedTuple):
    """The events that a model was trained on.

    Attributes:
        until: Time of the newest event, UTC without a time zone.
        events: Number of events.
    """

    until: datetime
    events: int


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
        learned: The events it was trained on.
        warm_start: The start of a later fit on more sessions; `None` if the kind cannot be refitted.
    """

    graph: "tf.Module"
    model: str
    outputs: Mapping[str, str]
    curve: list[dict[str, float]]
    metrics: dict[str, float]
    products: int = 0
    learned: Learned | None = None
    warm_start: "WarmStart | None" = None
