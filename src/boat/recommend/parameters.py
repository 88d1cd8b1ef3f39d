"""Training parameters of the recommenders."""

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
    """Parameters of a recommender. Only networks use `scale`, and the parameters from `dropout` to
    `refit_epochs`.

    Attributes:
        model: Recommender to train.
        repeats: `keep` allows a product to follow itself. `drop` merges repeated views and never lists the current
            product.
        half_life: Days after which the views after a page count half, in `co_occurrence` and in `blend`.
        sample: Sessions that `vmis_knn` compares, alone or in `blend`: the newest with a common product.
        neighbours: Most similar sessions of these, which vote.
        dimensions: Length of a product's embedding.
        window: Last products of a session that the model sees.
        scale: Factor of the cosines before the softmax.
        dropout: Share of embedding values dropped in training.
        learning_rate: Learning rate of Adam.
        batch_size: Largest number of examples in a step. Small shops have smaller steps, for 100 steps an epoch.
        negatives: Random products in each step that the right products are compared with.
        epochs: Largest number of passes over the examples.
        patience: Epochs without a better validation MRR@20 before the training ends.
        refit_epochs: Further passes over train and validation examples, so that the model knows the newest days.
        max_seconds: Longest training time. If it ends the training, the result depends on the machine's speed.
        seed: Seed of all random draws. The same seed gives the same model up to rounding of parallel sums.
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
