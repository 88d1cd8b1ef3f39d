"""Training parameters of the purchase-intent models."""

from dataclasses import dataclass
from typing import Literal

IntentModel = Literal["auto", "blend", "boosting", "sequence", "lstm"]


@dataclass(frozen=True)
class IntentParameters:
    """Of the purchase-intent model.

    Attributes:
        model: Which of the family: networks are `sequence` and `lstm`, `boosting` are trees on hand-made features,
            `blend` is the mean of `sequence` and `boosting`. `auto` is the blend, unless one of its parts alone is
            clearly better on the validation split, see `boat.intent.family.best`. What is said of units,
            dropout, speed, epochs and seconds below is for networks alone.
        window: How many of a session's last events it looks at one by one.
        members: Boosted models, each choosing among other features, that are averaged.
        leaves: Of a tree, at most.
        rounds: Trees of a member, at most.
        contact_cost: What it costs to do something about a shopper. The evaluation reads it; training does not.
        sale_value: What that is worth with one who buys, in the same unit: contacted is whose chance of a purchase is
            above the quotient.
        units: Width of its layers.
        dropout: Share of values dropped while training.
        learning_rate: Of Adam.
        batch_size: Sessions a step, at most; fewer where that leaves under 30 steps an epoch.
        epochs: Passes over the sessions, at most; each time with other prefixes.
        patience: Epochs without a better validation loss before it stops.
        max_seconds: Training time, at most. Where it ends a training, the machine's speed decides the result too.
        seed: Of all that is random. The same seed gives the same model but for the rounding of parallel sums.
    """

    model: IntentModel = "auto"
    window: int = 30
    members: int = 16
    leaves: int = 16
    rounds: int = 300
    contact_cost: float = 1.0
    sale_value: float = 20.0
    units: int = 16
    dropout: float = 0.3
    learning_rate: float = 0.003
    batch_size: int = 256
    epochs: int = 60
    patience: int = 5
    max_seconds: float = 30.0
    seed: int = 0
