"""How the scores of each class spread, and ROC curves."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from mnemoscope.errors import UsageError
from mnemoscope.plots import canvas
from mnemoscope.plots.canvas import CURVES, FAINT, GREY, INK, legend, one_axes
from mnemoscope.stats import auc, roc

Values = Float[np.ndarray, "..."]

COLOURS = {"memorized": "#d55e00", "ordinary": "#0072b2", "flagged, unlabelled": "#aa4499", "unlabelled": "#6b7684"}
STYLES = dict(zip(COLOURS, ("-", "--", "-.", ":"), strict=True))


def class_of(row: Mapping[str, Any]) -> str:
    """What is known of a prompt: memorized, ordinary, or unlabelled and perhaps flagged."""
    if row.get("role") == "negative" or row.get("label") is False:
        return "ordinary"
    if row.get("label") is True:
        return "memorized"
    return "flagged, unlabelled" if row.get("flagged") is True else "unlabelled"


def density_plot(
    memorized: Values,
    ordinary: Values,
    threshold: float | None = None,
    *,
    unlabelled: Values | None = None,
    label: str = "score",
    log: bool | None = None,
    names: Mapping[str, str] | None = None,
    of: str = "prompts",
) -> Figure:
    """How the scores of each class spread: the share of the class in each bin, all classes in the same bins.

    Unless `log` says, the axis is logarithmic when all scores and the threshold are positive. `names` renames classes,
    `of` says what is counted.
    Raises UsageError if there is no score or one is not finite.
    """
    given = zip(("memorized", "ordinary", "unlabelled"), (memorized, ordinary, unlabelled), strict=True)
    groups = {name: values for name, values in given if values is not None and values.size}
    pooled = np.concatenate([*groups.values(), np.empty(0)])
    if not pooled.size or not np.isfinite(pooled).all():
        raise UsageError("Scores to plot are missing or not finite; give at least one, and finite ones only.")
    figure, axes = one_axes(label, f"share of the {of} in a bin")
    is_log = bool(pooled.min() > 0 and (threshold is None or threshold > 0)) if log is None else log
    edges = _edges(pooled, is_log)
    for name, values in groups.items():
        heights = np.histogram(values, edges)[0] / values.size
        label_text = f"{(names or {}).get(name, name)} (n = {values.size})"
        axes.stairs(heights, edges, fill=True, color=COLOURS[name], alpha=0.28)
        axes.stairs(heights, edges, color=COLOURS[name], linewidth=1.6, linestyle=STYLES[name], label=label_text)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.3g}")
    if is_log:
        _mark_log(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, None)
    return legend(figure, axes)


def roc_plot(curves: Mapping[str, tuple[Values, Values]]) -> Figure:
    """Memorized prompts found against ordinary prompts flagged by mistake, for every threshold; one curve per name.

    The axis of false alarms is logarithmic, so that 1 % can be seen; its left edge stands for none.
    Raises UsageError for no curve, an empty group or a non-finite score.
    """
    if not curves:
        raise UsageError("No curve was given to plot; give the scores of memorized and of ordinary prompts.")
    figure, axes = one_axes("false alarms: ordinary prompts flagged", "prompts flagged")
    floor = min(0.005, *(0.5 / max(ordinary.size, 1) for _, ordinary in curves.values()))
    for (name, (memorized, ordinary)), colour, style in zip(curves.items(), cycle(CURVES), cycle("-"), strict=False):
        fpr, tpr, _ = roc(memorized, ordinary)
        text = f"{canvas.label(name)}: AUC {auc(memorized, ordinary):.3f}"
        axes.plot(np.maximum(fpr, floor), tpr, style, color=colour, drawstyle="steps-post", linewidth=1.8, label=text)
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, ":", color=GREY, linewidth=1.2, label="chance: AUC 0.5")
    axes.axvline(0.01, color=FAINT, linewidth=1, zorder=0)
    axes.set(xscale="log", xlim=(floor, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return legend(figure, axes, loc="lower right")


def _edges(pooled: Values, is_log: bool) -> Values:
    """The ends of the bins that hold all values, as wide as one another on their axis."""
    scaled = np.log10(pooled) if is_log else pooled
    low, high = float(scaled.min()), float(scaled.max())
    alike = high - low <= 1e-9 * max(1, abs(high))  # up to rounding, which numpy cannot cut into bins
    ends = (low - 0.5, high + 0.5) if alike else (low, high)
    edges = np.histogram_bin_edges(scaled, bins=int(np.clip(2 * np.sqrt(pooled.size), 8, 36)), range=ends)
    if not is_log:
        return edges
    edges = 10.0**edges
    edges[0], edges[-1] = min(edges[0], pooled.min()), max(edges[-1], pooled.max())  # rounding loses none
    return edges


def _mark_log(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 6 * low else MaxNLocator(5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
