"""What changes from step to step of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, GREY, label, legend_above, one_axes

SMOOTHED = 200  # steps from which on a mean is drawn over the single values
Points = Sequence[tuple[int, float]]


def training_plot(curves: Mapping[str, Points], *, y: str, smooth: bool = False) -> Figure:
    """One line a curve over the steps; with `smooth` a long one is faint behind its running mean over 2 % of it.

    Raises `UsageError` if no curve has a point.
    """
    if not any(curves.values()):
        raise UsageError("No step has a value to draw; give the rows of a training.")
    figure, axes = one_axes("step", y)
    for (name, points), colour in zip(curves.items(), [*CURVES] * (len(curves) // len(CURVES) + 1), strict=False):
        if not points:
            continue
        steps, values = np.array(points, dtype=float).T
        named: dict[str, Any] = {"label": label(name), "color": colour}
        if smooth and len(values) >= SMOOTHED:
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(steps, running_mean(values, max(2, len(values) // 50)), linewidth=1.8, **named)
        else:
            axes.plot(steps, values, linewidth=1.6, marker="o" if len(values) < 30 else "", markersize=3.5, **named)
    return legend_above(figure, axes) if len(curves) > 1 else figure


def ratio_plot(curves: Mapping[str, Sequence[tuple[int, float, float, float]]], *, line: int | float) -> Figure:
    """Ratios over the steps with their intervals as bands, points of (step, ratio, low, high), and a line to compare.

    Raises `UsageError` if no curve has a point.
    """
    if not any(curves.values()):
        raise UsageError("No step has a ratio to draw; give the rows of a training.")
    figure, axes = one_axes("step", "memorized, %")
    axes.axhline(100 * line, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    named = ((name, points) for name, points in curves.items() if points)
    for (name, points), colour in zip(named, [*CURVES] * (len(curves) // len(CURVES) + 1), strict=False):
        steps, values, low, high = np.array(points, dtype=float).T
        axes.fill_between(steps, 100 * low, 100 * high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(steps, 100 * values, color=colour, linewidth=1.7, marker="o", markersize=3.5, label=label(name))
    axes.set_ylim(-3, 104)
    axes.set_xlim(left=0)
    return legend_above(figure, axes)


def running_mean(values: Float[np.ndarray, " N"], width: int) -> Float[np.ndarray, " N"]:
    """Mean of each value and those before it, `width` in all, fewer at the beginning."""
    sums = np.cumsum(np.r_[0.0, values])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
