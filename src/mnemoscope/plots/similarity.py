"""How similar generated images are to references: against the references' own similarity, and to their own image."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, FONT, GREY, INK, legend_above, one_axes
from mnemoscope.plots.canvas import label as safe

Values = Float[np.ndarray, " N"]
Curve = Sequence[Mapping[str, Any]]

GENERATED, BACKGROUND = "#d55e00", "#0072b2"
DASHES = ("-", "--", "-.", ":")
AXIS = "similarity to the nearest reference"


def similarity_histogram(
    generated: Values,
    background: Float[np.ndarray, " M"] | None = None,
    *,
    threshold: int | float | None = None,
    edges: int | None = None,
    label: str = AXIS,
) -> Figure:
    """How similar generated images are to their nearest reference, over how similar references are to one another.

    Shares of each group in bins from 0 to 1, lower where a similarity is; `edges` sets their number, 200 as in
    arXiv:2212.03860, and by default it follows that of the images. Raises UsageError for no image or a value that is
    not finite.
    """
    groups = {"generated images": generated}
    if background is not None and background.size:
        groups["references, to one another"] = background
    pooled = np.concatenate(list(groups.values()))
    if not generated.size or not np.isfinite(pooled).all():
        raise UsageError("Similarities to plot are missing or not finite; give at least one, and finite ones only.")
    count = edges or int(np.clip(3 * np.sqrt(generated.size), 20, 200))
    at = np.linspace(min(0.0, float(pooled.min())), max(1.0, float(pooled.max())), count)
    figure, axes = one_axes(label, "share of the pictures in a bin", (5.6, 3.6))
    styles = ((GENERATED, "-", 3), (BACKGROUND, "--", 2))
    for (name, values), (colour, dash, order) in zip(groups.items(), styles, strict=False):
        heights = np.histogram(values, at)[0] / values.size
        named = f"{name} (n = {values.size})"
        axes.stairs(heights, at, fill=True, color=colour, alpha=0.25, zorder=order)
        axes.stairs(heights, at, color=colour, linewidth=1.3, linestyle=dash, label=named, zorder=order)
    _mark(axes, threshold)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(at[0], at[-1])
    axes.set_ylim(bottom=0)
    return legend_above(figure, axes)


def share_curve_plot(
    curves: Mapping[str, Curve], *, threshold: int | float | None = None, label: str = "similarity threshold"
) -> Figure:
    """Share of images more similar than each threshold, with its 95 % interval as a band; one curve a name.

    Curves are those of `mnemoscope.measuring.replication.threshold_curve`. Raises UsageError for no curve or an empty
    one.
    """
    if not curves or not all(curves.values()):
        raise UsageError("There is no threshold curve to draw, or one has no point; give at least one with points.")
    figure, axes = one_axes(label, "share of images above the threshold", (5.6, 3.6))
    for (name, curve), colour, dash in zip(
        curves.items(), cycle(CURVES[1::-1] + CURVES[2:]), cycle(DASHES), strict=False
    ):
        at, share = ([point[key] for point in curve] for key in ("threshold", "share"))
        low, high = np.array([point.get("interval") or [point["share"]] * 2 for point in curve], dtype=float).T
        axes.fill_between(at, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
        axes.plot(at, share, dash, drawstyle="steps-post", color=colour, linewidth=1.7, label=safe(name))
    _mark(axes, threshold)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.02)
    return legend_above(figure, axes)


def duplication_plot(measured: Mapping[str, Any], *, label: str = AXIS) -> Figure:
    """Mean similarity to the nearest reference, by whether that lies once or several times in the training data.

    Bars with 95 % intervals, from what `mnemoscope.measures.duplication.by_duplication` says. Raises UsageError if
    nothing was measured.
    """
    bars = [(name, measured[key]) for name, key in (("once", "single"), ("several times", "duplicated"))]
    if not any(bar["images"] for _, bar in bars):
        raise UsageError("No image was matched; give at least one with its nearest reference.")
    figure, axes = one_axes("how often the nearest reference was trained on", label, (4.2, 3.6))
    for place, ((_, bar), colour) in enumerate(zip(bars, (BACKGROUND, GENERATED), strict=True)):
        if bar["mean"] is not None:
            low, high = bar["interval"] or [bar["mean"]] * 2
            reach = [[max(bar["mean"] - low, 0)], [max(high - bar["mean"], 0)]]
            axes.bar(place, bar["mean"], 0.55, color=colour, alpha=0.75, hatch=("", "//")[place], edgecolor="white")
            axes.errorbar(place, bar["mean"], yerr=reach, color=INK, capsize=5, linewidth=1.3)
    axes.set_xticks([0, 1], [f"{name}\n(n = {bar['images']})" for name, bar in bars])
    for tick in axes.get_xticklabels():
        tick.set(fontproperties=FONT, fontsize=10)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, 1.6)
    axes.axhline(0, color=GREY, linewidth=0.8)
    return figure


def own_plot(own: Values, nearest: Values, is_nearest: Values, *, threshold: int | float | None = None) -> Figure:
    """Each image's similarity to its own reference against that to the nearest of all.

    Those on the diagonal have their own for the nearest. Images whose `own` is NaN, which have none, are left out.
    Raises UsageError if none has one.
    """
    known = ~np.isnan(own)
    if not known.any():
        raise UsageError("No image has a reference of its own; there is nothing to draw.")
    figure, axes = one_axes(AXIS, "similarity to the own reference", (5.0, 4.2))
    first = known & (is_nearest == 1)
    for member, name, marker, colour in (
        (first, "own is nearest", "o", GENERATED),
        (known & ~first, "another is nearer", "x", BACKGROUND),
    ):
        named = f"{name} (n = {int(member.sum())})"
        axes.scatter(nearest[member], own[member], 22, c=colour, marker=marker, alpha=0.65, linewidths=1, label=named)
    low = min(0.0, float(own[known].min()), float(nearest[known].min()))
    axes.plot([low, 1], [low, 1], ":", color=GREY, linewidth=1, zorder=0)
    _mark(axes, threshold)
    if threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
    axes.set(xlim=(low - 0.03, 1.03), ylim=(low - 0.03, 1.03))
    return legend_above(figure, axes)


def _mark(axes: Axes, threshold: int | float | None) -> None:
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.1, linestyle=(0, (4, 2)), zorder=4)
        beside = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        side: Literal["left", "right"] = "right" if threshold > 0.7 else "left"
        at = axes.get_xaxis_transform()  # upwards, in shares of the axes
        label = f" threshold {threshold:.3g} "
        axes.text(threshold, 0.98, label, ha=side, va="top", transform=at, fontproperties=FONT, fontsize=9, bbox=beside)
