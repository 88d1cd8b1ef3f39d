"""A third kind of model for the tests: the chance that a session puts a product into the cart."""

from dataclasses import dataclass
from typing import Any, Literal

from boat.kinds import CardText, GatePolicy, Kind, Range


@dataclass(frozen=True)
class CartParameters:
    """Training parameters of the cart model."""

    model: Literal["constant"] = "constant"
    smoothing: int = 1
    max_seconds: float = 1.0
    seed: int = 0


def _is_valid_answer(answer: Any) -> bool:
    return isinstance(answer, float)


KIND = Kind(
    name="cart",  # type: ignore[arg-type]
    parameters=CartParameters,
    example_columns="event_time, event_type",
    spaces={"constant": {"smoothing": Range(1, 10)}},
    tuning_metric="validation_share",
    gates=GatePolicy("share", baselines=("none",), minimum_targets=10),
    card=CardText("The chance of an add.", "All test sessions."),
    job_module="boat.cart.job",
    is_valid_answer=_is_valid_answer,
)
