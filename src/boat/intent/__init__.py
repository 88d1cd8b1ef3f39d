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
    gates=GatePolicy("pr_auc", baselines=("base_rate",), limits={"calibration": ("ece", 0.1)}),
    card=CardText(
        purpose="Given a session, the chance that it ends with a purchase. It is a share of 1, not a yes or no.",
        protocol="Starts of sessions that it was not trained on. In brackets: 95 % intervals.",
        limits=(
            ("Scope", "Sessions like those it was trained on: a sale or a new page changes what a step means."),
            ("Use", "A chance is right over many sessions, not for one: rank by it, or weigh what a contact costs."),
        ),
    ),
    job_module="boat.intent.job",
    is_valid_answer=_is_valid_answer,
    obstacle=_obstacle,
)
