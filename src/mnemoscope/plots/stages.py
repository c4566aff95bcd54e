"""What happens to each prompt from stage to stage."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, FAINT, INK, legend_above, one_axes


def stages_plot(
    groups: Mapping[str, Sequence[Mapping[str, float]]], *, stages: Mapping[str, str], threshold: float, label: str
) -> Figure:
    """A line for each prompt over the stages, by group, with each group's mean; `stages` names their keys.

    Raises UsageError if there is no prompt.
    """
    if not any(groups.values()):
        raise UsageError("There is no prompt to plot; give at least one.")
    figure, axes = one_axes("", label, (5.4, 3.6))
    places = np.arange(len(stages))
    for (name, rows), colour, shift in zip(groups.items(), (CURVES[1], CURVES[0]), (-0.06, 0.06), strict=False):
        values = np.array([[row[key] for key in stages] for row in rows])
        for line in values:
            axes.plot(places + shift, line, color=colour, alpha=max(0.12, min(0.5, 6 / len(values))), linewidth=0.9)
        if len(values):
            mean = values.mean(0)
            axes.plot(
                places + shift, mean, color=colour, linewidth=2.6, marker="o", label=f"{name}, mean of {len(rows)}"
            )
    axes.axhline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.3g}")
    axes.set_xticks(places, list(stages.values()))
    axes.set_xlim(-0.4, len(stages) - 0.6)
    axes.axhline(0, color=FAINT, linewidth=1)
    return legend_above(figure, axes)
