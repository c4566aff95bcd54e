"""What the probes of a training say from step to step."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, INK, legend_above, one_axes
from mnemoscope.plots.canvas import label as safe
from mnemoscope.stats import mean_interval
from mnemoscope.training.probe_rows import values_of

FACES = {"memorized": ("#d55e00", "-", "o"), "base": ("#0072b2", "--", "s")}


def probes_plot(
    rows: Sequence[Mapping[str, Any]], value: str = "own_similarity", *, threshold: int | float | None = None
) -> Figure:
    """Mean of a value over the probes of each group, by training step, with its 95 % interval over prompts.

    `value` is a detector's name or `own_similarity`. Raises UsageError if no row has it.
    """
    points = {group: _points(rows, group, value) for group in dict.fromkeys(row["group"] for row in rows)}
    points = {group: found for group, found in points.items() if found}
    if not points:
        raise UsageError(f"No probe has a value of {value}; there is nothing to draw.")
    figure, axes = one_axes("training step", safe(value.replace("_", " ")), (5.6, 3.6))
    spare = cycle((colour, ":", "^") for colour in CURVES[2:])
    for group, found in points.items():
        colour, dash, marker = FACES.get(group) or next(spare)
        at, mean, low, high, count = np.array(found).T
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        text = f"{safe(group)} (n = {int(count.max())})"
        axes.plot(at, mean, dash, color=colour, marker=marker, markersize=4, linewidth=1.7, label=text)
    if threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.3g}")
    return legend_above(figure, axes)


def _points(rows: Sequence[Mapping[str, Any]], group: str, value: str) -> list[tuple[float, ...]]:
    """Step, mean, interval and number of probes of a group at each step that has any."""
    found: list[tuple[float, ...]] = []
    for step in sorted({row["step"] for row in rows}):
        values = values_of([row for row in rows if row["step"] == step and row["group"] == group], value)
        if values.size:
            low, high = mean_interval(values) if values.size > 1 else (values[0], values[0])
            found.append(tuple(map(float, (step, values.mean(), low, high, values.size))))
    return found
