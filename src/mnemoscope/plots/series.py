"""Scores along sampling: medians and bands per class, and single images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import GREY, legend, one_axes
from mnemoscope.plots.scores import COLOURS, STYLES, Values, class_of

Rows = Sequence[Mapping[str, Any]]
MOST_LINES = 100  # of single images, a class


def series_plot(rows: Rows, *, label: str | None = None, by_step: bool = False) -> Figure:
    """The score against the timestep it was taken at, in the order of sampling: from noise, t high, to image.

    `by_step` says that the rows' timesteps are the numbers of the steps, of a code that kept no timesteps.

    One row gives one line per seed; several give, per class, the median over prompts (each the mean of its seeds), the
    band that holds the middle 80 % of them and beneath it a thin line for each image, of at most `MOST_LINES` a class,
    spread evenly from the lowest to the highest; the legend says how many of how many. Raises UsageError if no row has
    a series, or its length is not that of its timesteps.
    """
    rows = [row for row in rows if row.get("series") and row.get("timesteps")]
    if not rows:
        raise UsageError("No row has a series and its timesteps; give rows of a run that stored them.")
    named = "number of the step" if by_step else "timestep t"
    figure, axes = one_axes(f"{named}, from noise to image", label or str(rows[0].get("method", "score")))
    if len(rows) == 1:
        _draw_seeds(axes, rows[0])
    else:
        _draw_classes(axes, rows)
    if not by_step:
        axes.invert_xaxis()
    return legend(figure, axes)


def _lines(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    try:
        times, values = np.asarray(row["timesteps"], float), np.asarray(row["series"], float)
    except (TypeError, ValueError):
        times, values = np.empty(0), np.empty((1, 1))
    if values.ndim != 2 or values.shape[1:] != times.shape:
        raise UsageError(f"The series of row {row.get('id')!r} does not have one number per timestep for every seed.")
    return times, values  # (steps,), (seeds, steps)


def _draw_seeds(axes: Axes, row: Mapping[str, Any]) -> None:
    times, values = _lines(row)
    named = row.get("seeds") or []
    seeds = named if len(named) == len(values) else range(len(values))
    marker = "o" if times.size == 1 else ""
    for seed, line, shade in zip(seeds, values, np.linspace(1, 0.45, len(values)), strict=True):
        axes.plot(
            times, line, color=COLOURS[class_of(row)], alpha=shade, linewidth=1.1, marker=marker, label=f"seed {seed}"
        )


def _draw_classes(axes: Axes, rows: Rows) -> None:
    drawn, images = 0, 0
    for name, colour in COLOURS.items():
        members = [_lines(row) for row in rows if class_of(row) == name]
        pooled: dict[float, list[float]] = defaultdict(list)
        for times, values in members:
            for t, value in zip(times, values.mean(axis=0), strict=True):
                if np.isfinite(value):
                    pooled[float(t)].append(float(value))
        if pooled:
            at = sorted(pooled, reverse=True)
            low, middle, high = np.array([np.quantile(pooled[t], (0.1, 0.5, 0.9)) for t in at]).T
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(at, middle, STYLES[name], color=colour, linewidth=1.8, label=f"{name} (n = {len(members)})")
        single = [np.stack([times, line], axis=1) for times, values in members for line in values]
        shown = _spread(single)
        axes.add_collection(LineCollection(shown, colors=colour, linewidths=0.5, alpha=0.2, zorder=1.5))
        drawn, images = drawn + len(shown), images + len(single)
    told = f"single images ({drawn:,} of {images:,})"
    axes.add_collection(LineCollection([], colors=GREY, linewidths=0.6, label=told))
    axes.autoscale_view()


def _spread(lines: Sequence[Values]) -> list[Values]:
    """At most `MOST_LINES` of the lines, evenly from the lowest mean to the highest."""
    finite = [line for line in lines if np.isfinite(line).all()]
    order = sorted(finite, key=lambda line: float(line[:, 1].mean()))
    places = np.linspace(0, len(order) - 1, min(len(order), MOST_LINES)).round().astype(int)
    return [order[k] for k in places]
