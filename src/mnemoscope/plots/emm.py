"""Memorization ratios: against the size of the training set, side by side, and along a factor."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, GREY, INK, legend_above, one_axes
from mnemoscope.plots.canvas import label as safe

MARKERS = "os^Dvph"
Entries = Sequence[Mapping[str, Any]]


def sizes_plot(entries: Entries, emm: Mapping[str, float | None], *, eps: float) -> Figure:
    """Ratio against the number of training images, a line for each level, with the line of 1 - eps and EMM on it.

    Entries have `level`, `n`, `ratio` and its `interval`. Raises UsageError if there is none.
    """
    _require(entries)
    figure, axes = one_axes("training images", "memorized, %", (6.0, 3.8))
    axes.axhline(100 * (1 - eps), color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    for (level, of_level), (colour, marker) in zip(_by(entries, "level").items(), _faces(), strict=False):
        _line(axes, of_level, "n", safe(level, 28), colour, marker)
        if (at := emm.get(level)) is not None:
            axes.plot([at, at], [0, 100 * (1 - eps)], color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
            axes.plot(at, 100 * (1 - eps), marker="|", markersize=13, markeredgewidth=2.2, color=colour)
    _log_axis(axes, sorted({entry["n"] for entry in entries}))
    axes.set_ylim(-3, 104)
    return legend_above(figure, axes)


def bars_plot(entries: Entries) -> Figure:
    """Ratio of each level at one size as a bar, with its interval. Raises UsageError if there is no entry."""
    _require(entries)
    figure, axes = one_axes("memorized, %", "", (6.0, 1.1 + 0.36 * len(entries)))
    values = np.array([100 * float(entry["ratio"]) for entry in entries])
    style: dict[str, Any] = {"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5}
    spans = np.array([_span(entry) for entry in entries]).T
    axes.barh(range(len(entries)), values, height=0.62, color=CURVES[0], xerr=spans, error_kw=style)
    axes.set_yticks(range(len(entries)), [safe(str(entry["level"]), 32) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, 104)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color="#eceff2", linewidth=0.8)
    return figure


def along_plot(entries: Entries, *, x: str) -> Figure:
    """Ratio along a factor, a line for each size; entries have `x` besides. Raises UsageError if there is none."""
    _require(entries)
    figure, axes = one_axes(x, "memorized, %", (6.0, 3.6))
    for (n, of_size), (colour, marker) in zip(_by(entries, "n").items(), _faces(), strict=False):
        _line(axes, sorted(of_size, key=lambda entry: entry["x"]), "x", f"{n:,.0f} images", colour, marker)
    places = sorted({float(entry["x"]) for entry in entries})
    if places[0] > 0 and places[-1] >= 8 * places[0]:
        _log_axis(axes, places)
    axes.set_ylim(-3, 104)
    return legend_above(figure, axes)


def _line(axes: Axes, entries: Entries, key: str, name: str, colour: str, marker: str) -> None:
    at = [float(entry[key]) for entry in entries]
    values = [100 * float(entry["ratio"]) for entry in entries]
    spans = np.array([_span(entry) for entry in entries]).T
    style: dict[str, Any] = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.2, "capsize": 2, "zorder": 3}
    axes.errorbar(at, values, yerr=spans, label=name, color=colour, marker=marker, **style)


def _span(entry: Mapping[str, Any]) -> tuple[float, float]:
    """How far the interval reaches below and above, in percent; nowhere if there is none."""
    interval, value = entry.get("interval"), float(entry["ratio"])
    if not interval:
        return 0.0, 0.0
    return 100 * max(value - interval[0], 0.0), 100 * max(interval[1] - value, 0.0)


def _log_axis(axes: Axes, places: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(places)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.06)


def _by(entries: Entries, key: str) -> dict[Any, list[Mapping[str, Any]]]:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(entry[key], []).append(entry)
    return groups


def _faces() -> "zip[tuple[str, str]]":
    return zip(cycle(CURVES), cycle(MARKERS), strict=False)


def _require(entries: Entries) -> None:
    if not entries:
        raise UsageError("There is no ratio to plot; give the table of a sweep.")
