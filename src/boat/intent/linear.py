"""Logistic regression on the number of events of each type: the simplest intent model."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from boat.events import EVENT_TYPES
from boat.intent.features import FEATURES

COLUMNS = tuple(FEATURES.index(f"{name}_events") for name in EVENT_TYPES)
"""Columns of `boat.intent.features.features` that the model uses."""


@dataclass(frozen=True)
class Linear:
    """Log-odds that are linear in the logarithms of the counts.

    Attributes:
        weights: Weight of log(1 + count) of each event type, float64 [event types].
        base: Log-odds without events.
    """

    weights: np.ndarray
    base: float

    def log_odds(self, table: np.ndarray) -> np.ndarray:
        """Return the log-odds, float64 [rows], of features, float32 [rows, features]."""
        odds: np.ndarray = self.base + _logarithms(table) @ self.weights
        return odds


def fit(table: np.ndarray, label: np.ndarray) -> Linear:
    """Fit the model to features, float32 [rows, features], and labels, bool [rows]."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(_logarithms(table), label)
    scaler, regression = pipeline[0], pipeline[1]
    weights = regression.coef_[0] / scaler.scale_
    return Linear(weights, float(regression.intercept_[0] - weights @ scaler.mean_))


def _logarithms(table: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = np.log1p(table[:, COLUMNS].astype(np.float64))
    return logarithms
