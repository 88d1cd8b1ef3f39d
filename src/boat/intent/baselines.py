"""Simple intent models that a challenger has to beat on the same sessions."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boat.events import EVENT_TYPES
from boat.models.examples import Sessions

Starts = tuple[np.ndarray, np.ndarray]
"""Number of the session, and number of its events, of each start."""


def event_count_chances(fit: Sessions, fit_starts: Starts, test: Sessions, test_starts: Starts) -> np.ndarray:
    """Estimate the probability of a purchase by a logistic regression on the number of events of each type.

    Args:
        fit: Sessions to learn from.
        fit_starts: Starts of these.
        test: Sessions to score.
        test_starts: Starts of these.

    Returns:
        Probabilities, float64 [test starts].
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(_event_counts(fit, fit_starts), fit.events["is_purchase"].to_numpy()[fit.offsets[fit_starts[0]]])
    chances: np.ndarray = model.predict_proba(_event_counts(test, test_starts))[:, 1]
    return chances


def _event_counts(part: Sessions, starts: Starts) -> np.ndarray:
    session, length = starts
    types, numbers = part.distinct("event_type")
    begin = part.offsets[session]
    columns = [np.append(0, np.cumsum((types == event_type)[numbers])) for event_type in EVENT_TYPES]
    counts: np.ndarray = np.log1p(np.column_stack([total[begin + length] - total[begin] for total in columns]))
    return counts
