"""Pictures for cards and live artifacts, as SVG."""

import io
import itertools
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from boat.transform.lineage import Graph, Node, before

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_DIM, _LOSS, _VALIDATION = "#5b6b7c", "#c2571a", "#0b62c4"
_SERIES = ("#0b62c4", "#c2571a", "#3a8f6a", "#8a5fb5")
_WIDE, _LOW = 9.4, 2.7
_LONGEST_LABEL = 24


def learning_curve_svg(curve: Sequence[Mapping[str, Any]]) -> str:
    """Draw the loss and the validation metric of each epoch, as SVG.

    Args:
        curve: One mapping for each epoch, with `epoch`, `loss` and a metric `validation_…`.
    """
    steps = [int(row.get("epoch", number)) for number, row in enumerate(curve, start=1)]

    def draw(axes: "Axes") -> None:
        axes.set_xlabel("epoch", color=_DIM)
        axes.locator_params(axis="x", integer=True)
        _line(axes, steps, values(curve, "loss"), _LOSS, "loss")
        name = validation_metric(curve)
        if name == "validation_loss":  # the same unit, so the same axis
            _line(axes, steps, values(curve, name), _VALIDATION, "validation loss")
            axes.set_ylabel("")
            axes.legend(frameon=False, labelcolor="linecolor")
        elif name:
            _line(axes.twinx(), steps, values(curve, name), _VALIDATION, name.replace("_", " "))

    return _svg(draw, width=7.2, height=3.2)


def calibration_svg(table: Sequence[Mapping[str, float]]) -> str:
    """Draw predicted against actual rates, as SVG. On the dotted line they are equal.

    Args:
        table: Rows with `count`, `predicted` and `actual`.
    """

    def draw(axes: "Axes") -> None:
        predicted, actual = [row["predicted"] for row in table], [row["actual"] for row in table]
        top = max([*predicted, *actual, 1e-3]) * 1.08
        axes.plot([0, top], [0, top], color=_DIM, linestyle=":", linewidth=1.2)
        axes.plot(predicted, actual, color=_VALIDATION, marker="o", markersize=5, linewidth=1.5)
        axes.set(xlim=(0, top), ylim=(0, top))
        axes.locator_params(nbins=5)
        axes.set_xlabel("predicted share of buyers", color=_DIM)
        axes.set_ylabel("actual share", color=_VALIDATION)

    return _svg(draw, width=4.4, height=3.6)


def lines_svg(
    times: Sequence[date],
    series: Mapping[str, Sequence[float]],
    *,
    percent: bool = False,
    open_end: bool = False,
    colours: Sequence[str] = _SERIES,
) -> str:
    """Draw series over time as lines, as SVG. The vertical axis starts at zero.

    Args:
        times: Days or times, ascending.
        series: Values by label. NaN leaves a gap.
        percent: Whether the values are shares of 1.
        open_end: Whether the newest value may still change. The line to it is dotted.
        colours: One colour for each series.
    """

    def draw(axes: "Axes") -> None:
        numbers = _numbers(times)
        closed = len(times) - 1 if open_end and len(times) > 1 else len(times)
        for colour, (label, points) in zip(colours, series.items(), strict=False):
            marker = "o" if len(times) == 1 else ""
            axes.plot(numbers[:closed], points[:closed], color=colour, linewidth=1.8, label=label, marker=marker)
            if closed < len(times):
                axes.plot(numbers[-2:], points[-2:], color=colour, linewidth=1.5, linestyle=":")
        _over_time(axes, series, percent)

    return _svg(draw, width=_WIDE, height=_LOW)


def bars_svg(times: Sequence[date], series: Mapping[str, Sequence[float]]) -> str:
    """Draw amounts over time as stacked bars, as SVG.

    Args:
        times: Days, one bar for each.
        series: Values by label, from the bottom to the top.
    """

    def draw(axes: "Axes") -> None:
        floor = [0.0] * len(times)
        for colour, (label, points) in zip(_SERIES, series.items(), strict=False):
            axes.bar(_numbers(times), points, bottom=floor, color=colour, width=0.8, label=label)
            floor = [bottom + value for bottom, value in zip(floor, points, strict=True)]
        _over_time(axes, series, percent=False)

    return _svg(draw, width=_WIDE, height=_LOW)


def funnel_svg(steps: Mapping[str, int]) -> str:
    """Draw the steps of a funnel, each with its share of the first step, as SVG."""

    def draw(axes: "Axes") -> None:
        first = max(next(iter(steps.values())), 1)
        bars = axes.barh(list(steps), list(steps.values()), color=_SERIES[0], height=0.62)
        labels = [f"{value:,}  ({value / first:.1%})" for value in steps.values()]
        axes.bar_label(bars, labels, padding=6, color=_DIM)
        axes.invert_yaxis()
        axes.set_xlim(0, first * 1.22)
        axes.xaxis.set_visible(False)

    return _svg(draw, width=_WIDE, height=0.55 * len(steps) + 0.2, grid=None)


def trials_svg(complete: Mapping[int, float], pruned: Mapping[int, float], metric: str, *, falls: bool) -> str:
    """Draw the metric of each trial of a tuning, and the best value so far, as SVG.

    Args:
        complete: Metric by trial number, ascending.
        pruned: Last metric of each pruned trial.
        metric: Name of the metric.
        falls: Whether a smaller value is better.
    """

    def draw(axes: "Axes") -> None:
        best = (np.minimum if falls else np.maximum).accumulate(np.array(list(complete.values())))
        axes.step(list(complete), best, where="post", color=_VALIDATION, linewidth=1.8, label="best so far")
        numbers, metrics = list(complete), list(complete.values())
        axes.plot(numbers, metrics, "o", color=_VALIDATION, alpha=0.55, markersize=5, label="trial")
        if pruned:
            axes.plot(list(pruned), list(pruned.values()), "x", color=_LOSS, markersize=5, label="pruned")
        axes.set_xlabel("trial", color=_DIM)
        axes.set_ylabel(metric, color=_DIM)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, labelcolor=_DIM, ncols=3, loc="lower left", bbox_to_anchor=(-0.01, 1))

    return _svg(draw, width=7.2, height=3.2)


def shares_svg(shares: Mapping[str, float]) -> str:
    """Draw shares of a total as bars, as SVG."""

    def draw(axes: "Axes") -> None:
        bars = axes.barh(list(shares), list(shares.values()), color=_SERIES[0], height=0.62)
        axes.bar_label(bars, [f"{value:.0%}" for value in shares.values()], padding=6, color=_DIM)
        axes.invert_yaxis()
        axes.set_xlim(0, max(shares.values()) * 1.15)
        axes.xaxis.set_visible(False)

    return _svg(draw, width=7.2, height=0.4 * len(shares) + 0.3, grid=None)


def slices_svg(rows: Sequence[Mapping[str, Any]], metric: str, overall: float) -> str:
    """Draw a metric of each slice as a dot with its interval, grouped by `by`, as SVG.

    Args:
        rows: One for each slice, with `by`, `slice`, `targets`, the metric, and its ends `…_low` and `…_high`.
        metric: Name of the metric.
        overall: The metric of all targets, drawn as a line.
    """
    labels, ticks, groups = [], [], []
    position = 0.0
    for number, row in enumerate(rows):
        if number == 0 or row["by"] != rows[number - 1]["by"]:
            position += 1.3
            groups.append((position - 0.8, row["by"]))
        labels.append(f"{shortened(row['slice'])}  ({row['targets']:,})")
        ticks.append(position)
        position += 0.8

    def draw(axes: "Axes") -> None:
        means = np.array([row[metric] for row in rows])
        ends = np.array([[row[f"{metric}_{end}"] for row in rows] for end in ("low", "high")])
        axes.axvline(overall, color=_DIM, linestyle=":", linewidth=1.2)
        axes.hlines(ticks, ends[0], ends[1], color=_VALIDATION, linewidth=1.8, alpha=0.45)
        axes.plot(means, ticks, color=_VALIDATION, marker="o", markersize=4.5, linestyle="")
        axes.set_yticks(ticks, labels)
        for height, name in groups:
            axes.text(0, height, f" {name}", color=_DIM, weight="bold", va="center", fontsize=9)
        axes.set_xlim(left=0)
        axes.set_ylim(position, 0)

    return _svg(draw, width=_WIDE, height=0.24 * position + 0.6, grid="x")


def graph_svg(graph: Graph) -> str:
    """Draw a graph from left to right, as SVG. Nodes of the same kind have the same colour.

    An arrow is omitted if a longer path implies it.
    """
    routed = _routed(_reduced(graph))
    columns = _columns(routed)
    highest = max(map(len, columns))
    centre = {name: (x, y - (len(names) - 1) / 2) for x, names in enumerate(columns) for y, name in enumerate(names)}
    kinds = list(dict.fromkeys(node.kind for node in graph.values()))

    def draw(axes: "Axes") -> None:
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(highest / 2, -highest / 2))
        axes.set_axis_off()
        boxes = {}
        for name, node in graph.items():
            colour = _SERIES[kinds.index(node.kind) % len(_SERIES)]
            box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour, "linewidth": 1.3}
            label = "\n".join(textwrap.wrap(node.label.replace("_", "_ "), 15)).replace("_ ", "_")
            text = axes.text(*centre[name], label, ha="center", va="center", fontsize=7.5, bbox=box, zorder=3)
            boxes[name] = text.get_bbox_patch()
        for name, node in routed.items():
            for parent in node.parents:
                arrow: dict[str, Any] = {
                    "color": "#b9c4d0",
                    "shrinkA": 0,
                    "shrinkB": int(name in boxes),
                    "linewidth": 1.1,
                }
                arrow |= {"arrowstyle": "-|>" if name in boxes else "-"}
                arrow |= {"patchA": boxes.get(parent), "patchB": boxes.get(name)}
                axes.annotate("", centre[name], centre[parent], arrowprops=arrow, zorder=2)

    return _svg(draw, width=max(1.32 * len(columns), 4.0), height=0.55 * highest + 0.1, grid=None)


def _reduced(graph: Graph) -> Graph:
    """Remove parents that are ancestors of another parent, or not in the graph."""
    reduced = {}
    for name, node in graph.items():
        parents = [parent for parent in node.parents if parent in graph]
        implied = {name for parent in parents for name in before(graph, parent) if name != parent}
        reduced[name] = replace(node, parents=tuple(parent for parent in parents if parent not in implied))
    return reduced


def _routed(graph: Graph) -> Graph:
    """Add a bend in each column that an arrow crosses, so that the arrow passes between the boxes."""
    step = _steps(graph)
    routed = dict(graph)
    for name, node in graph.items():
        parents = []
        for parent in node.parents:
            last = parent
            for column in range(step[parent] + 1, step[name]):
                bend = f"{parent} to {name} in {column}"
                routed[bend] = Node("", "bend", (last,))
                last = bend
            parents.append(last)
        routed[name] = replace(node, parents=tuple(parents))
    return routed


def _steps(graph: Graph) -> dict[str, int]:
    """Return the column of each node: the length of the longest path that leads to it."""
    step: dict[str, int] = {}
    for name in TopologicalSorter({name: node.parents for name, node in graph.items()}).static_order():
        step[name] = max((step[parent] + 1 for parent in graph[name].parents), default=0)
    return step


def _columns(graph: Graph) -> list[list[str]]:
    """Return the names in each column, sorted by the average position of their parents."""
    step = _steps(graph)
    columns: list[list[str]] = [[] for _ in range(max(step.values(), default=0) + 1)]
    for name, number in step.items():
        columns[number].append(name)
    for left, column in itertools.pairwise(columns):
        height = {name: number for number, name in enumerate(left)}
        column.sort(key=lambda name: statistics.fmean(height[parent] for parent in graph[name].parents))
    return columns


def shortened(label: str) -> str:
    """Shorten a label, because an id can be a long hash."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def values(curve: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return a metric of each epoch, or NaN if an epoch does not have it."""
    return [float(row.get(name, math.nan)) for row in curve]


def validation_metric(curve: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the validation metric, such as `validation_mrr`. Empty if the curve has no such metric."""
    return next((name for name in curve[-1] if name.startswith("validation_")), "")


def _numbers(times: Sequence[date]) -> "NDArray[np.float64]":
    """Return days since 1970, which is the unit of matplotlib's dates."""
    return np.asarray(times, dtype="datetime64[s]").astype(np.float64) / 86_400


def _over_time(axes: "Axes", series: Mapping[str, Sequence[float]], percent: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    integers = all(value == int(value) for points in series.values() for value in points if not math.isnan(value))
    axes.locator_params(axis="y", nbins=5, integer=integers and not percent)
    axes.yaxis.set_major_formatter(
        PercentFormatter(1, decimals=1) if percent else FuncFormatter(lambda value, _: f"{value:,.10g}")
    )
    is_zero = not any(value > 0 for points in series.values() for value in points)
    # Refunds can make the revenue of a day negative.
    has_negative = any(value < 0 for points in series.values() for value in points)
    axes.set_ylim(None if has_negative else 0, 1 if is_zero and not has_negative else None)
    axes.margins(x=0.02)
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=_DIM, ncols=len(series), loc="lower left", bbox_to_anchor=(-0.01, 1))


def _svg(draw: Callable[["Axes"], None], *, width: float, height: float, grid: Literal["x", "y"] | None = "y") -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure  # pyplot needs a display and is not safe in threads

    # Text is not converted to paths, which is ten times smaller. The same data gives the same SVG.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "boat", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        draw(figure.subplots())
        _tidy(figure, grid)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def _tidy(figure: "Figure", grid: Literal["x", "y"] | None) -> None:
    for axes in figure.axes:
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.spines["bottom"].set_color("#cfd7e0")
        axes.tick_params(length=0, labelcolor=_DIM)
    if grid:
        figure.axes[0].grid(axis=grid, color="#e8edf2")
    figure.axes[0].set_axisbelow(True)


def _line(axes: "Axes", steps: Sequence[int], values: Sequence[float], colour: str, label: str) -> None:
    axes.plot(steps, values, color=colour, marker="o", markersize=3.5, linewidth=1.8, label=label)
    axes.set_ylabel(label, color=colour)
