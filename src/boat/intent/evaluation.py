"""The test set of intent models: starts of test sessions, early, late, and at the first product in the cart.

The label of a start is whether a purchase follows. Intervals are 95 % bootstrap intervals over sessions.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from boat import metrics, snapshot
from boat.errors import DataError
from boat.evaluation import asking
from boat.evaluation.report import CalibrationBin, Difference, Metrics, ModelReport
from boat.intent import baselines
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.examples import Sessions
from boat.models.served import SavedModel
from boat.snapshot import Manifest

MAX_TARGETS = 20_000
ADD_TO_CART, END = "add_to_cart", "end"


class IntentTestSet:
    """Starts of the sessions on a snapshot's test days.

    Args:
        folder: The snapshot.
        manifest: Its manifest.
        parameters: The challenger's parameters, with the cost of a contact and the value of a sale.

    Attributes:
        fit: Sessions of the days before the test.
        test: Sessions of the test days.
        session: Number of the session of each start, int64 [starts].
        length: Events in each start, int64 [starts].
        label: Whether a purchase follows, bool [starts].

    Raises:
        DataError: There are no sessions before or on the test days.
    """

    def __init__(self, folder: Path, manifest: Manifest, parameters: IntentParameters) -> None:
        path = folder / snapshot.INTENT
        self.fit, self.test = examples.read_parts(path, manifest.split, ["fit", "test"])
        if not len(self.fit) or not len(self.test):
            raise DataError(
                f"Cannot evaluate intent: {len(self.fit)} sessions before and {len(self.test)} on the test days.",
                "Increase `days` of `retrain`, or load events of more days.",
            )
        self.session, self.length = _sample(*examples.cuts(self.test.lengths))
        self.label = _buys(self.test)[self.session]
        self._cost, self._value = float(parameters.contact_cost), float(parameters.sale_value)

    def predict(self, model: SavedModel) -> np.ndarray:
        """Return a model's probabilities, float64 [starts + carts]: of `session` and `length`, then of `carts`."""
        session, length = self._starts_and_carts
        chances: np.ndarray = asking.answers(model, self.test, session, length)["purchase"].astype(np.float64)
        return chances

    @property
    def _starts_and_carts(self) -> tuple[np.ndarray, np.ndarray]:
        session, length = self.carts
        return np.concatenate([self.session, session]), np.concatenate([self.length, length])

    @cached_property
    def carts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return sessions and numbers of events up to the first product in the cart, int64 [carts] each."""
        adds = np.flatnonzero(self.test.equal("event_type", "add"))
        owner = np.searchsorted(self.test.offsets, adds, side="right") - 1
        session, first = np.unique(owner, return_index=True)
        return _sample(session, adds[first] - self.test.offsets[session] + 1)

    def baselines(self) -> dict[str, ModelReport]:
        """Score simple models: the share of buyers for all sessions, and a regression on event counts."""
        learned = _sample(*examples.cuts(self.fit.lengths))
        base_rate = float(np.mean(_buys(self.fit)[learned[0]]))
        session, length = self._starts_and_carts
        chances = baselines.event_count_chances(self.fit, learned, self.test, (session, length))
        return {"base_rate": self.score(np.full(len(session), base_rate)), "logistic": self.score(chances)}

    def score(self, chances: np.ndarray) -> ModelReport:
        """Score the probabilities of `predict`."""
        starts, carts = chances[: len(self.session)], chances[len(self.session) :]
        buyers = len(np.unique(self.session[self.label]))
        brier = metrics.brier(self.label, starts)
        return ModelReport(
            metrics={**_score(self.label, starts, self.session), "buyers": buyers, "brier": brier},
            moments={
                **{name: _score(self.label[at], starts[at], self.session[at]) for name, at in self._moments.items()},
                **({ADD_TO_CART: self._at_the_cart(carts)} if len(carts) else {}),
            },
            calibration=tuple(
                CalibrationBin(int(row["count"]), row["predicted"], row["actual"])
                for row in metrics.calibration(self.label, starts)
            ),
            contacts=self._contacts(starts),
        )

    def difference(self, challenger: np.ndarray, champion: np.ndarray) -> dict[str, Difference]:
        """Return the difference of two models' PR-AUC, from the probabilities of `predict`."""
        ours, theirs = (chances[: len(self.session)] for chances in (challenger, champion))
        return {"pr_auc": Difference(*metrics.pr_auc_difference(self.label, ours, theirs, self.session))}

    @property
    def _moments(self) -> Mapping[str, np.ndarray]:
        moments = {str(cut): self.length == cut for cut in examples.CUTS}
        moments[END] = self.length == self.test.lengths[self.session]
        return {name: at for name, at in moments.items() if at.any()}

    def _at_the_cart(self, chances: np.ndarray) -> Metrics:
        session, _length = self.carts
        return _score(_buys(self.test)[session], chances, session)

    def _contacts(self, chances: np.ndarray) -> Metrics:
        """Score a contact of each session whose expected sale is worth more than the contact (Elkan, IJCAI 2001)."""
        threshold = self._cost / self._value
        contacted = chances > threshold
        reached = contacted & self.label
        gains = self._value * reached - self._cost * contacted
        return {
            "contact_cost": self._cost,
            "sale_value": self._value,
            "threshold": threshold,
            "contacted": float(contacted.mean()),
            "buying_of_contacted": float(reached.sum() / contacted.sum()) if contacted.any() else 0.0,
            "buyers_contacted": float(reached.sum() / self.label.sum()) if self.label.any() else 0.0,
            "gain": float(gains.mean()),
            "gain_contacting_all": float(self._value * self.label.mean() - self._cost),
        }


def _score(label: np.ndarray, chances: np.ndarray, session: np.ndarray) -> Metrics:
    low, high = metrics.pr_auc_interval(label, chances, session)
    return {
        "targets": len(label),
        "purchases": int(label.sum()),
        "base_rate": float(np.mean(label)),
        "pr_auc": metrics.pr_auc(label, chances),
        "pr_auc_low": low,
        "pr_auc_high": high,
        "roc_auc": metrics.roc_auc(label, chances),
        "log_loss": metrics.log_loss(label, chances),
        "ece": metrics.expected_calibration_error(metrics.calibration(label, chances)),
        "lift_at_10": metrics.lift(label, chances, 0.1),
    }


def _sample(session: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all starts, or a fixed sample of `MAX_TARGETS`."""
    if len(session) > MAX_TARGETS:
        chosen = np.sort(np.random.default_rng(0).choice(len(session), MAX_TARGETS, replace=False))
        session, length = session[chosen], length[chosen]
    return session, length


def _buys(part: Sessions) -> np.ndarray:
    buys: np.ndarray = part.events["is_purchase"].to_numpy()[part.offsets[:-1]].astype(bool)
    return buys
