"""Suites of behaviour tests.

A test is a function with a severity and a threshold. Its docstring is its text in the report.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Severity = Literal["critical", "warning"]
"""A failed `critical` test prevents the promotion. A failed `warning` is only reported."""
Side = Literal["at least", "at most"]

Bed = TypeVar("Bed")


@dataclass(frozen=True)
class BehaviourResult:
    """The result of one behaviour test.

    Attributes:
        name: Name of the test, such as `no_product_twice`.
        severity: Consequence of a failure.
        value: The measured value; None if the data cannot answer the test, or if the model failed.
        threshold: Limit of the value.
        side: Side of the threshold on which the value passes. The threshold itself passes too.
        passed: Whether the test did not fail. A test that the data cannot answer does not fail.
        text: Description of the test.
    """

    name: str
    severity: Severity
    value: float | None
    threshold: float
    side: Side
    passed: bool
    text: str

    @property
    def measured(self) -> str:
        """Return the value as text."""
        if self.value is None:
            return "not tested" if self.passed else "no answer"
        return f"{self.value:.4g}"

    @property
    def verdict(self) -> str:
        """Return whether the test passed, as text."""
        if not self.passed:
            return "NO"
        return "not tested" if self.value is None else "yes"

    @property
    def limit(self) -> str:
        """Return the threshold as text."""
        return f"{self.side} {self.threshold:g}"

    @property
    def summary(self) -> str:
        """Return the value and the threshold as text."""
        return f"{self.measured}, required: {self.limit}"


Measure = Callable[[Bed], float | None]
"""Measures a behaviour; returns None if the data cannot answer the test."""


@dataclass(frozen=True)
class _Behaviour(Generic[Bed]):
    measure: Measure[Bed]
    severity: Severity
    threshold: float
    side: Side
    of_unseen_days: bool

    def run(self, bed: Bed) -> BehaviourResult:
        name, text = self.measure.__name__, " ".join((inspect.getdoc(self.measure) or "").split())
        try:
            value = self.measure(bed)
        except Exception as error:  # a TensorFlow graph can raise any exception, and each is a failed test
            text = f"{text} The model gave no answer: {type(error).__name__}: {str(error).splitlines()[0]}"
            return BehaviourResult(name, self.severity, None, self.threshold, self.side, False, text)
        passed = value is None or self._passes(value)
        return BehaviourResult(name, self.severity, _finite(value), self.threshold, self.side, passed, text)

    def _passes(self, value: float) -> bool:
        return value >= self.threshold if self.side == "at least" else value <= self.threshold


class Suite(Generic[Bed]):
    """The behaviour tests of one kind of model, in the order of their definition."""

    def __init__(self) -> None:
        self._behaviours: list[_Behaviour[Bed]] = []

    def at_least(
        self, threshold: float, severity: Severity = "warning", of_unseen_days: bool = False
    ) -> Callable[[Measure[Bed]], Measure[Bed]]:
        """Register a test that fails below the threshold; see `run` for `of_unseen_days`."""
        return self._register(threshold, severity, "at least", of_unseen_days)

    def at_most(
        self, threshold: float, severity: Severity = "warning", of_unseen_days: bool = False
    ) -> Callable[[Measure[Bed]], Measure[Bed]]:
        """Register a test that fails above the threshold; see `run` for `of_unseen_days`."""
        return self._register(threshold, severity, "at most", of_unseen_days)

    def run(self, bed: Bed, unseen_days: bool = True) -> tuple[BehaviourResult, ...]:
        """Run the tests on a model.

        Args:
            bed: The model and its test data.
            unseen_days: Whether the model was trained without the test days. If not, the tests that expect it are left
                out.
        """
        return tuple(
            behaviour.run(bed) for behaviour in self._behaviours if unseen_days or not behaviour.of_unseen_days
        )

    def _register(
        self, threshold: float, severity: Severity, side: Side, of_unseen_days: bool
    ) -> Callable[[Measure[Bed]], Measure[Bed]]:
        def register(measure: Measure[Bed]) -> Measure[Bed]:
            self._behaviours.append(_Behaviour(measure, severity, threshold, side, of_unseen_days))
            return measure

        return register


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
