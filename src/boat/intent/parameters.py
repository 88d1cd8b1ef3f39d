"""Training parameters of the intent models."""

from dataclasses import dataclass
from typing import Literal

IntentModel = Literal["auto", "blend", "boosting", "sequence", "lstm", "logistic"]


@dataclass(frozen=True)
class IntentParameters:
    """Parameters of an intent model. Only networks use `units` and the parameters after it, except `seed`.

    Attributes:
        model: Model to train. `sequence` and `lstm` are networks, `boosting` are trees on hand-made features. `blend`
            is the mean of `sequence` and `boosting`. `logistic` is a regression on the number of events of each type,
            for shops with few buyers. `auto` is the blend, unless one of its parts is clearly better on
            the validation days; see `boat.intent.family.best`.
        window: Last events of a session that the model sees one by one.
        members: Number of boosted models that are averaged. Each draws other features.
        leaves: Largest number of leaves of a tree.
        rounds: Largest number of trees of a member.
        contact_cost: Cost of contacting a shopper, for the evaluation. Training does not use it.
        sale_value: Value of a sale, in the same unit. The evaluation contacts shoppers whose chance of a purchase is
            above `contact_cost / sale_value`.
        units: Width of the layers.
        dropout: Share of values dropped in training.
        learning_rate: Learning rate of Adam.
        batch_size: Largest number of sessions in a step. Small shops have smaller steps, for 30 steps an epoch.
        epochs: Largest number of passes over the sessions, with other prefixes in each.
        patience: Epochs without a better validation loss before the training ends.
        max_seconds: Longest training time. If it ends the training, the result depends on the machine's speed.
        seed: Seed of all random draws. The same seed gives the same model up to rounding of parallel sums.
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
