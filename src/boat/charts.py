"""Pictures for cards and live artifacts, as SVG."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_DIM, _LOSS, _VALIDATION = "#5b6b7c", "#c2571a", "#0b62c4"
_SERIES = ("#0b62c4", "#c2571a", "#3a8f6a", "#8a5fb5")
_WIDE, _LOW = 9.4, 2.7


def learning_curve_svg(curve: Sequence[Mapping[str, Any]]) -> str:
    """Loss and the figure on the validation split by epoch, as SVG.

    Args:
        curve: One mapping an epoch: `epoch`, `loss` and a `validation_…`.
    """
    steps = [int(row.get("epoch", number)) for number, row in enumerate(curve, start=1)]

    def draw(axes: "Axes") -> None:
        axes.set_xlabel("epoch", color=_DIM)
        axes.locator_params(axis="x", integer=True)
        _line(axes, steps, values(curve, "loss"), _LOSS, "loss")
        name = watched(curve)
        if name == "validation_loss":  # the same unit, so the same axis
            _line(axes, steps, values(curve, name), _VALIDATION, "validation loss")
            axes.set_ylabel("")
            axes.legend(frameon=False, labelcolor="linecolor")
        elif name:
            _line(axes.twinx(), steps, values(curve, name), _VALIDATION, name.replace("_", " "))

    return _svg(draw, width=7.2, height=3.2)


def calibration_svg(table: Sequence[Mapping[str, float]]) -> str:
    """Predicted against actual rates as SVG; on the dotted line they agree.

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
    """Series over time as SVG, from zero.

    Args:
        times: Days or moments, ascending.
        series: Values by label; NaN leaves a gap.
        percent: They are shares of 1.
        open_end: The newest value may still change: its way there is dotted.
        colours: One a series.
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
    """Amounts over time on top of each other as SVG.

    Args:
        times: Days, one bar each.
        series: Values by label, the lowest first.
    """

    def draw(axes: "Axes") -> None:
        floor = [0.0] * len(times)
        for colour, (label, points) in zip(_SERIES, series.items(), strict=False):
            axes.bar(_numbers(times), points, bottom=floor, color=colour, width=0.8, label=label)
            floor = [below + value for below, value in zip(floor, points, strict=True)]
        _over_time(axes, series, percent=False)

    return _svg(draw, width=_WIDE, height=_LOW)


def funnel_svg(steps: Mapping[str, int]) -> str:
    """Steps that ever fewer take, each with its share of the first, as SVG."""

    def draw(axes: "Axes") -> None:
        first = max(next(iter(steps.values())), 1)
        bars = axes.barh(list(steps), list(steps.values()), color=_SERIES[0], height=0.62)
        labels = [f"{value:,}  ({value / first:.1%})" for value in steps.values()]
        axes.bar_label(bars, labels, padding=6, color=_DIM)
        axes.invert_yaxis()
        axes.set_xlim(0, first * 1.22)
        axes.xaxis.set_visible(False)

    return _svg(draw, width=_WIDE, height=0.55 * len(steps) + 0.2, grid=None)


def trials_svg(tried: Mapping[int, float], given_up: Mapping[int, float], label: str, *, falls: bool) -> str:
    """The figures of a search's trials, and the best so far, as SVG.

    Args:
        tried: Figure by trial number, ascending.
        given_up: Last figure of those that were ended early.
        label: What the figure is.
        falls: Whether a smaller one is better.
    """

    def draw(axes: "Axes") -> None:
        best = (np.minimum if falls else np.maximum).accumulate(np.array(list(tried.values())))
        axes.step(list(tried), best, where="post", color=_VALIDATION, linewidth=1.8, label="best so far")
        axes.plot(list(tried), list(tried.values()), "o", color=_VALIDATION, alpha=0.55, markersize=5, label="a trial")
        if given_up:
            numbers, figures = list(given_up), list(given_up.values())
            axes.plot(numbers, figures, "x", color=_LOSS, markersize=5, label="ended early")
        axes.set_xlabel("trial", color=_DIM)
        axes.set_ylabel(label, color=_DIM)
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False, labelcolor=_DIM, ncols=3, loc="lower left", bbox_to_anchor=(-0.01, 1))

    return _svg(draw, width=7.2, height=3.2)


def shares_svg(shares: Mapping[str, float]) -> str:
    """Parts of a whole as bars, as SVG."""

    def draw(axes: "Axes") -> None:
        bars = axes.barh(list(shares), list(shares.values()), color=_SERIES[0], height=0.62)
        axes.bar_label(bars, [f"{value:.0%}" for value in shares.values()], padding=6, color=_DIM)
        axes.invert_yaxis()
        axes.set_xlim(0, max(shares.values()) * 1.15)
        axes.xaxis.set_visible(False)

    return _svg(draw, width=7.2, height=0.4 * len(shares) + 0.3, grid=None)


def values(curve: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One figure by epoch; NaN where an epoch has none."""
    return [float(row.get(name, math.nan)) for row in curve]


def watched(curve: Sequence[Mapping[str, Any]]) -> str:
    """The figure that the training watches, such as `validation_mrr`; empty where there is none."""
    return next((name for name in curve[-1] if name.startswith("validation_")), "")


def _numbers(times: Sequence[date]) -> "NDArray[np.float64]":
    """Days since 1970, as matplotlib has it."""
    return np.asarray(times, dtype="datetime64[s]").astype(np.float64) / 86_400


def _over_time(axes: "Axes", series: Mapping[str, Sequence[float]], percent: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    whole = all(value == int(value) for points in series.values() for value in points if not math.isnan(value))
    axes.locator_params(axis="y", nbins=5, integer=whole and not percent)
    axes.yaxis.set_major_formatter(
        PercentFormatter(1, decimals=1) if percent else FuncFormatter(lambda value, _: f"{value:,.10g}")
    )
    nothing = not any(value > 0 for points in series.values() for value in points)
    axes.set_ylim(0, 1 if nothing else None)
    axes.margins(x=0.02)
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=_DIM, ncols=len(series), loc="lower left", bbox_to_anchor=(-0.01, 1))


def _svg(draw: Callable[["Axes"], None], *, width: float, height: float, grid: Literal["x", "y"] | None = "y") -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot: no display, and safe in threads

    # Text stays text (a tenth of the size), and the same figures give the same picture.
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
