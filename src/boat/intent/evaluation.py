"""Purchase intent: sessions are judged early and late, and at the moment when something first goes into the cart.

A start of a session is right if a purchase follows in it. Intervals are of 95 %, by drawing whole sessions anew.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from boat import metrics, snapshot
from boat.errors import DataError
from boat.evaluation import asking
from boat.intent import baselines
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.examples import Sessions
from boat.models.served import SavedModel
from boat.snapshot import Manifest

MAX_TARGETS = 20_000
ADD_TO_CART, END = "add_to_cart", "end"

Figures = dict[str, Any]


class Purchases:
    """Starts of the sessions on a snapshot's test days.

    Args:
        folder: The snapshot.
        manifest: What is in it.
        parameters: Of the model in question: what a contact costs and a sale is worth.

    Attributes:
        fit: Sessions that a model may have learned from.
        test: Sessions that are judged.
        session: Number of the session of each start, int64 [starts].
        shown: How many of its events are shown, int64 [starts].
        label: Whether a purchase follows, bool [starts].

    Raises:
        DataError: There is no session to judge.
    """

    def __init__(self, folder: Path, manifest: Manifest, parameters: Mapping[str, Any]) -> None:
        path = folder / snapshot.INTENT
        self.fit = examples.read(path, manifest.split, "fit")
        self.test = examples.read(path, manifest.split, "test")
        if not len(self.fit) or not len(self.test):
            raise DataError("There is no session to judge intent by on the test days.", "Take a snapshot of more days.")
        self.session, self.shown = _drawn(*examples.cuts(self.test.lengths))
        self.label = _buys(self.test)[self.session]
        self._cost = float(parameters.get("contact_cost", IntentParameters.contact_cost))
        self._value = float(parameters.get("sale_value", IntentParameters.sale_value))

    def ask(self, model: SavedModel) -> np.ndarray:
        """The chances that a model gives, float64 [starts + carts]: of `session` and `shown`, then of `carts`."""
        session, shown = (np.concatenate(pair) for pair in zip((self.session, self.shown), self.carts, strict=True))
        chances: np.ndarray = asking.answers(model, self.test, session, shown)["purchase"].astype(np.float64)
        return chances

    @cached_property
    def carts(self) -> tuple[np.ndarray, np.ndarray]:
        """Session and events shown up to the first time that something goes into the cart, int64 [carts] each."""
        adds = np.flatnonzero(self.test.strings("event_type") == "add")
        owner = np.searchsorted(self.test.offsets, adds, side="right") - 1
        session, first = np.unique(owner, return_index=True)
        return _drawn(session, adds[first] - self.test.offsets[session] + 1)

    def baselines(self) -> dict[str, Figures]:
        """Figures of simple models: the share of buyers for all, and counts of events."""
        learned = _drawn(*examples.cuts(self.fit.lengths))
        base_rate = float(np.mean(_buys(self.fit)[learned[0]]))
        session, shown = (np.concatenate(pair) for pair in zip((self.session, self.shown), self.carts, strict=True))
        odds = baselines.event_count_odds(self.fit, learned, self.test, (session, shown))
        return {"base_rate": self.figures(np.full(len(session), base_rate)), "logistic": self.figures(odds)}

    def figures(self, chances: np.ndarray) -> Figures:
        """Figures of chances, as `ask` gives them: over all starts, `after` each number of events, and a `decision`."""
        starts, carts = chances[: len(self.session)], chances[len(self.session) :]
        return {
            **_figures(self.label, starts, self.session),
            "brier": metrics.brier(self.label, starts),
            "calibration": metrics.calibration(self.label, starts),
            "decision": self._decision(starts),
            "after": {
                **{name: _figures(self.label[at], starts[at], self.session[at]) for name, at in self._moments.items()},
                **({ADD_TO_CART: self._at_the_cart(carts)} if len(carts) else {}),
            },
        }

    @property
    def _moments(self) -> dict[str, np.ndarray]:
        moments = {str(cut): self.shown == cut for cut in examples.CUTS}
        moments[END] = self.shown == self.test.lengths[self.session]
        return {name: at for name, at in moments.items() if at.any()}

    def _at_the_cart(self, chances: np.ndarray) -> Figures:
        session, _shown = self.carts
        return _figures(_buys(self.test)[session], chances, session)

    def _decision(self, chances: np.ndarray) -> Figures:
        """Whom to contact where that costs something: whose chance of a sale is worth more (Elkan, IJCAI 2001)."""
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


def _figures(label: np.ndarray, chances: np.ndarray, session: np.ndarray) -> Figures:
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


def _drawn(session: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MAX_TARGETS`, by a fixed draw."""
    if len(session) > MAX_TARGETS:
        chosen = np.sort(np.random.default_rng(0).choice(len(session), MAX_TARGETS, replace=False))
        session, shown = session[chosen], shown[chosen]
    return session, shown


def _buys(part: Sessions) -> np.ndarray:
    buys: np.ndarray = part.events["is_purchase"].to_numpy()[part.offsets[:-1]].astype(bool)
    return buys
