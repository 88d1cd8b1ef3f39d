"""The kind `intent`: given a session, the chance that it ends with a purchase."""

from typing import TYPE_CHECKING, Any

from boat.intent.estimators import ESTIMATORS
from boat.intent.parameters import IntentParameters
from boat.kinds import CardText, GatePolicy, Kind

if TYPE_CHECKING:
    from boat.snapshot import Manifest, Snapshot


def _is_valid_answer(answer: Any) -> bool:
    """Return whether a prediction is a probability."""
    return isinstance(answer, float) and 0.0 <= answer <= 1.0


def _obstacle(snapshot: "Snapshot | Manifest") -> str | None:
    """Return why the snapshot has too few purchases; None if it has enough."""
    return snapshot.intent_obstacle


KIND = Kind(
    name="intent",
    parameters=IntentParameters,
    example_columns="event_time, event_type, product_id, url, is_purchase",
    spaces={name: estimator.space for name, estimator in ESTIMATORS.items()},
    tuning_metric="validation_pr_auc",
    gates=GatePolicy(
        "pr_auc",
        baselines=("base_rate", "logistic"),
        lift_over="logistic",
        limits={"calibration": ("ece", 0.1)},
        margin=0.1,
        lift_margin=0.05,
        minimum_buyers=30,
    ),
    card=CardText(
        purpose="Estimates the chance that a session ends with a purchase, from 0 to 1.",
        protocol="The model estimates starts of test sessions. In brackets: 95 % bootstrap intervals over sessions.",
        limits=(
            ("Scope", "It is valid for sessions like its training data. A sale or a new page changes the behaviour."),
            ("Use", "A chance is an average over many sessions. Rank by it, or compare it with the cost of a contact."),
        ),
    ),
    job_module="boat.intent.job",
    least_agreement=0.7,
    is_valid_answer=_is_valid_answer,
    obstacle=_obstacle,
    bytes_an_example=110,
)
