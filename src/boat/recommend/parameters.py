"""Training parameters of the recommendation models."""

from dataclasses import dataclass
from typing import Literal

RecommendModel = Literal[
    "blend",
    "attention",
    "session_lstm",
    "masked_transformer",
    "prod2vec_knn",
    "vmis_knn",
    "co_occurrence",
    "popular",
]
Repeats = Literal["drop", "keep"]


@dataclass(frozen=True)
class RecommendParameters:
    """Of the next-item model.

    Attributes:
        model: Which of the family. What is said of epochs, steps and steepness below is for those with a network.
        repeats: `keep` lets a product follow itself; `drop` takes it in a row as one, and never lists the current one.
        half_life: Days after which what followed a page counts half, in `co_occurrence` and in a blend.
        sample: Sessions that `vmis_knn` compares, alone or in a blend: the newest that share a product.
        neighbours: Sessions that vote in it.
        dimensions: Length of a product's embedding.
        window: How many of a session's last products it looks at.
        scale: Steepness of the softmax over cosines.
        dropout: Share of embedding values dropped while training.
        learning_rate: Of Adam.
        batch_size: Examples a step, at most; fewer where that leaves under 100 steps an epoch.
        negatives: Products drawn for each step that the right ones are held against; all, where there are not more.
        epochs: Passes over the examples, at most.
        patience: Epochs without a better validation MRR@20 before it stops.
        refit_epochs: Passes over train and validation examples together after that, so that the newest days are known.
        max_seconds: Training time, at most. Where it ends a training, the machine's speed decides the result too.
        seed: Of all that is random. The same seed gives the same model but for the rounding of parallel sums.
    """

    model: RecommendModel = "blend"
    repeats: Repeats = "drop"
    half_life: float = 30.0
    sample: int = 500
    neighbours: int = 100
    dimensions: int = 128
    window: int = 12
    scale: float = 14.0
    dropout: float = 0.35
    learning_rate: float = 0.003
    batch_size: int = 512
    negatives: int = 1024
    epochs: int = 8
    patience: int = 3
    refit_epochs: int = 5
    max_seconds: float = 75.0
    seed: int = 0
