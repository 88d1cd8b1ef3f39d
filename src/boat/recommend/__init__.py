"""The kind `recommend`: given a session, the products most likely to come next."""

import math
from itertools import pairwise
from typing import Any

from boat.kinds import CardText, GatePolicy, Kind
from boat.recommend.parameters import RecommendParameters
from boat.recommend.recommenders import RECOMMENDERS


def _is_valid_answer(answer: Any) -> bool:
    """Return whether a prediction lists products with finite, falling scores."""
    scores = answer["score"]
    finite = all(map(math.isfinite, scores))
    falling = all(left >= right for left, right in pairwise(scores))
    return bool(scores) and len(scores) == len(answer["product_id"]) and finite and falling


KIND = Kind(
    name="recommend",
    parameters=RecommendParameters,
    example_columns="event_time, event_type, product_id, url_before",
    spaces={name: recommender.space for name, recommender in RECOMMENDERS.items()},
    tuning_metric="validation_mrr",
    gates=GatePolicy("mrr_at_20", baselines=("popular", "co_occurrence", "vmis_knn"), lift_over="vmis_knn"),
    card=CardText(
        purpose="Returns the products most likely to come next in a session. If the session has no known product, they "
        "are ranked by its page, then by popularity.",
        protocol="The model predicts every item of a test session after its first, from the items before it. Recall "
        "counts the rest of the session. In brackets: 95 % bootstrap intervals over sessions.",
        limits=(
            ("Scope", "It predicts the next view, not the best offer: it has no data on stock or margin."),
            (
                "New products",
                "Only description vectors lead to products without views; see their slice.",
            ),
        ),
    ),
    job_module="boat.recommend.job",
    least_agreement=0.6,
    is_valid_answer=_is_valid_answer,
    bytes_an_example=350,
    trial_parameters={"refit_epochs": 0},  # the refit follows the validation
)
