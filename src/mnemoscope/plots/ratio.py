"""How much closer generated images are to one training image than to any other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, INK, label, legend_above, one_axes

BINS = np.linspace(0, 1, 51)


def quotient_histogram(quotients: Float[np.ndarray, " N"], *, threshold: int | float) -> Figure:
    """How many images have which distance to the nearest over that to the second, those below the threshold apart.

    Raises UsageError for no image or a value outside [0, 1].
    """
    if not quotients.size or not (0 <= quotients.min() <= quotients.max() <= 1):
        raise UsageError("Quotients to plot are missing or not from 0 to 1; give at least one.")
    figure, axes = one_axes("distance to the nearest / to the second", "images", (5.6, 3.6))
    is_below = quotients < threshold
    for values, colour, name in (
        (quotients[is_below], CURVES[1], "memorized"),
        (quotients[~is_below], CURVES[0], "not"),
    ):
        if values.size:
            axes.hist(values, BINS.tolist(), color=colour, alpha=0.8, label=f"{name} (n = {values.size:,})")
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _mark(axes, threshold)
    return legend_above(figure, axes)


def ratio_curve_plot(curves: Mapping[str, Sequence[tuple[float, float]]], *, threshold: int | float) -> Figure:
    """Share of images that would be memorized at each threshold, a curve a name. Raises UsageError for no curve."""
    if not any(curves.values()):
        raise UsageError("There is no threshold curve to draw; give at least one with points.")
    figure, axes = one_axes("threshold", "share memorized", (5.6, 3.6))
    for (name, points), colour, dash in zip(
        curves.items(), CURVES[1::-1] + CURVES[2:], ("-", "--", "-.", ":"), strict=False
    ):
        at, share = np.array(points, dtype=float).T
        axes.plot(at, share, dash, color=colour, linewidth=1.7, marker="o", markersize=3.5, label=label(name))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, 1)
    _mark(axes, threshold)
    return legend_above(figure, axes)


def snapshots_plot(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The ratio of each snapshot with its 95 % interval as a band, in their order. Raises UsageError for no row."""
    if not rows:
        raise UsageError("There is no snapshot to draw; give at least one.")
    figure, axes = one_axes("snapshot", "memorization ratio", (5.6, 3.6))
    at = np.arange(1, len(rows) + 1)
    for key, name, colour in (("memorization_ratio", "memorized", CURVES[1]), ("near_ratio", "near", CURVES[0])):
        low, high = np.array([row[f"{key}_interval"] for row in rows], dtype=float).T
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, [row[key] for row in rows], color=colour, linewidth=1.7, marker="o", markersize=3.5, label=name)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(-0.02, 1.02)
    return legend_above(figure, axes)


def _mark(axes: Axes, threshold: int | float) -> None:
    axes.axvline(threshold, color=INK, linewidth=1, linestyle=":")
