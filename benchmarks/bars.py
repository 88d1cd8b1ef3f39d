"""The result of a benchmark: a JSON line of figures and bars, and an exit status of 1 if a bar does not hold."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Bar:
    """A figure and its limit."""

    name: str
    value: float
    limit: float
    holds: bool


def at_most(name: str, value: float, limit: float) -> Bar:
    """Return a bar that holds if the value is at most the limit."""
    return Bar(name, value, limit, value <= limit)


def at_least(name: str, value: float, limit: float) -> Bar:
    """Return a bar that holds if the value is at least the limit."""
    return Bar(name, value, limit, value >= limit)


def conclude(benchmark: str, figures: Mapping[str, float | str], *bars: Bar, **labels: str) -> int:
    """Print the JSON line and return the exit status. `labels` describe the run, such as `model="blend"`."""
    line = {"benchmark": benchmark, **labels, "figures": dict(figures), "bars": [asdict(bar) for bar in bars]}
    print(json.dumps(line), flush=True)
    return 0 if all(bar.holds for bar in bars) else 1
