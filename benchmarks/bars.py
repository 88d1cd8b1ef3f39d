"""The last line of a benchmark: figures and bars as JSON, and an exit status that says whether the bars hold."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Bar:
    """A figure and the limit it must keep."""

    name: str
    value: float
    limit: float
    holds: bool


def at_most(name: str, value: float, limit: float) -> Bar:
    """Return a bar that holds if the value is not above the limit."""
    return Bar(name, value, limit, value <= limit)


def at_least(name: str, value: float, limit: float) -> Bar:
    """Return a bar that holds if the value is not below the limit."""
    return Bar(name, value, limit, value >= limit)


def conclude(benchmark: str, figures: Mapping[str, float | str], *bars: Bar, **beside: str) -> int:
    """Print the last line, with the further fields of `beside`. Return the exit status."""
    line = {"benchmark": benchmark, **beside, "figures": dict(figures), "bars": [asdict(bar) for bar in bars]}
    print(json.dumps(line), flush=True)
    return 0 if all(bar.holds for bar in bars) else 1
