"""Simple models of purchase intent to beat, on the same sessions as the real ones."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boat.events import EVENT_TYPES
from boat.models.examples import Sessions

Cuts = tuple[np.ndarray, np.ndarray]


def event_count_odds(fit: Sessions, seen: Cuts, test: Sessions, asked: Cuts) -> np.ndarray:
    """Chance of a purchase by a logistic regression on how many events of each type there were, float64 [asked].

    Args:
        fit: Sessions to learn from.
        seen: Their numbers, and how many events of each are shown.
        test: Sessions to judge.
        asked: The same for them.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(_event_counts(fit, seen), fit.events["is_purchase"].to_numpy()[fit.offsets[seen[0]]])
    odds: np.ndarray = model.predict_proba(_event_counts(test, asked))[:, 1]
    return odds


def _event_counts(part: Sessions, cuts: Cuts) -> np.ndarray:
    session, shown = cuts
    types = part.strings("event_type")
    begin = part.offsets[session]
    columns = [np.append(0, np.cumsum(types == kind)) for kind in EVENT_TYPES]
    counts: np.ndarray = np.log1p(np.column_stack([total[begin + shown] - total[begin] for total in columns]))
    return counts
