"""A suite of behaviour tests: a function each, with a severity and a limit; its docstring is its text in the report."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Severity = Literal["critical", "warning"]
"""`critical` refuses the promotion, `warning` is shown."""

Bed = TypeVar("Bed")


@dataclass(frozen=True)
class BehaviourResult:
    """What became of one behaviour test.

    Attributes:
        name: Of the test, such as `no_product_twice`.
        severity: What it means if it fails.
        value: What was measured; None where this data cannot tell, or where the model gave no answer.
        threshold: The limit.
        side: On which side of the limit the value has to be; on it is good too.
        passed: Whether it is. A test that the data cannot answer passes.
        text: What is asked, and why it matters.
    """

    name: str
    severity: Severity
    value: float | None
    threshold: float
    side: Literal["at least", "at most"]
    passed: bool
    text: str

    @property
    def measured(self) -> str:
        """The value in words."""
        if self.value is None:
            return "could not be asked" if self.passed else "no answer"
        return f"{self.value:.4g}"

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"{self.side} {self.threshold:g}"

    @property
    def said(self) -> str:
        """Both."""
        return f"{self.measured}, {self.wanted} wanted"


Measure = Callable[[Bed], float | None]
"""The value of a behaviour; None where the data cannot tell."""


@dataclass(frozen=True)
class _Behaviour(Generic[Bed]):
    measure: Measure[Bed]
    severity: Severity
    threshold: float
    side: Literal["at least", "at most"]

    def run(self, bed: Bed) -> BehaviourResult:
        name, text = self.measure.__name__, " ".join((inspect.getdoc(self.measure) or "").split())
        try:
            value = self.measure(bed)
        except Exception as error:  # whatever a graph raises is an answer too
            text = f"{text} The model gave no answer: {type(error).__name__}: {str(error).splitlines()[0]}"
            return BehaviourResult(name, self.severity, None, self.threshold, self.side, False, text)
        return BehaviourResult(name, self.severity, _finite(value), self.threshold, self.side, self._holds(value), text)

    def _holds(self, value: float | None) -> bool:
        if value is None:
            return True
        return value >= self.threshold if self.side == "at least" else value <= self.threshold


class Suite(Generic[Bed]):
    """Behaviour tests of one kind of model, in the order in which they were written."""

    def __init__(self) -> None:
        self._behaviours: list[_Behaviour[Bed]] = []

    def at_least(self, threshold: float, severity: Severity = "warning") -> Callable[[Measure[Bed]], Measure[Bed]]:
        """Register a test whose value must not be below the threshold."""
        return self._register(threshold, severity, "at least")

    def at_most(self, threshold: float, severity: Severity = "warning") -> Callable[[Measure[Bed]], Measure[Bed]]:
        """Register a test whose value must not be above the threshold."""
        return self._register(threshold, severity, "at most")

    def run(self, bed: Bed) -> tuple[BehaviourResult, ...]:
        """Try a model on all of them."""
        return tuple(behaviour.run(bed) for behaviour in self._behaviours)

    def _register(
        self, threshold: float, severity: Severity, side: Literal["at least", "at most"]
    ) -> Callable[[Measure[Bed]], Measure[Bed]]:
        def register(measure: Measure[Bed]) -> Measure[Bed]:
            self._behaviours.append(_Behaviour(measure, severity, threshold, side))
            return measure

        return register


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
