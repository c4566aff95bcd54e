"""How much a search has found for what it has spent."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, legend_above, one_axes


def found_plot(found: Mapping[str, Sequence[int | float]], spent: int | float) -> Figure:
    """Images found against network evaluations, a step for each; by search, the evaluations at which it found one.

    Raises UsageError if there is no search.
    """
    if not found:
        raise UsageError("There is no search to plot; give at least one.")
    figure, axes = one_axes("network evaluations", "images found", (5.4, 3.2))
    for (name, at), colour in zip(found.items(), CURVES, strict=False):
        steps = np.array([0.0, *sorted(at), spent])
        counts = np.array([*range(len(at) + 1), len(at)])
        axes.step(steps, counts, where="post", color=colour, linewidth=2, label=f"{name}, {len(at)}")
    axes.set_xlim(0, spent)
    axes.set_ylim(bottom=0)
    return legend_above(figure, axes)
