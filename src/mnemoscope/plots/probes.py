"""What the probes of a training say from step to step."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, INK, legend_above, one_axes
from mnemoscope.plots.canvas import label as safe
from mnemoscope.run.probe_rows import probed
from mnemoscope.stats import mean_interval

NAMED = 12  # checkpoints at most that an axis names
FACES = {"memorized": ("#d55e00", "-", "o"), "base": ("#0072b2", "--", "s")}


def probes_plot(
    rows: Sequence[Mapping[str, Any]],
    value: str = "own_similarity",
    *,
    threshold: int | float | None = None,
    ticks: Mapping[int, str] | None = None,
) -> Figure:
    """Mean of a value over the probes of each group, by training step, with its 95 % interval over prompts.

    `value` is a detector's name or `own_similarity`; `ticks` are names of the steps, where these are places in a list
    of checkpoints. Raises UsageError if no row has it.
    """
    series = probed(rows, value)
    if not series:
        raise UsageError(f"No probe has a value of {value}; there is nothing to draw.")
    figure, axes = one_axes("checkpoint" if ticks else "training step", safe(value.replace("_", " ")), (5.6, 3.6))
    spare = cycle((colour, ":", "^") for colour in CURVES[2:])
    for group, by_step in series.items():
        colour, dash, marker = FACES.get(group) or next(spare)
        mean = [float(values.mean()) for values in by_step.values()]
        low, high = zip(*(_interval(values) for values in by_step.values()), strict=True)
        at, count = list(by_step), max(values.size for values in by_step.values())
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        text = f"{safe(group)} (n = {count})"
        axes.plot(at, mean, dash, color=colour, marker=marker, markersize=4, linewidth=1.7, label=text)
    if ticks:
        shown = list(ticks)[:: math.ceil(len(ticks) / NAMED)]
        axes.set_xticks(shown, [safe(ticks[place]) for place in shown])
    if threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.3g}")
    return legend_above(figure, axes)


def _interval(values: Float[np.ndarray, " N"]) -> tuple[float, float]:
    return mean_interval(values) if values.size > 1 else (float(values[0]), float(values[0]))
