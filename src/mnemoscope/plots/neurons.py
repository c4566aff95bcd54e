"""How many neurons a prompt needs, and where in the network they are."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnemoscope.errors import UsageError
from mnemoscope.plots import canvas
from mnemoscope.plots.canvas import CURVES, FONT

NAMES = ("candidates", "needed")


def set_size_plot(initial: Sequence[int], refined: Sequence[int]) -> Figure:
    """How many prompts have sets of neurons of each size, before and after refinement.

    Raises UsageError if there is no prompt.
    """
    if not len(refined):
        raise UsageError("There is no prompt with neurons to draw; give at least one.")
    figure, axes = canvas.one_axes("neurons of a prompt", "prompts")
    every = np.array([*initial, *refined])
    edges = np.histogram_bin_edges(every, bins=int(np.clip(2 * np.sqrt(every.size), 6, 30)), range=(0, every.max() + 1))
    for sizes, colour, name in zip((initial, refined), (CURVES[5], CURVES[1]), NAMES, strict=True):
        counts = np.histogram(sizes, edges)[0]
        axes.stairs(counts, edges, fill=True, alpha=0.45, color=colour, label=f"{name} (median {np.median(sizes):g})")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return canvas.legend_above(figure, axes)


def layer_plot(initial: Mapping[str, float], refined: Mapping[str, float]) -> Figure:
    """Mean number of neurons of a prompt in each layer, before and after refinement; the layers by their short names.

    Raises UsageError for no layer, or other layers before than after.
    """
    if not refined or list(initial) != list(refined):
        raise UsageError("There are no layers to draw, or not the same before and after; give the same ones.")
    figure, axes = canvas.one_axes("", "neurons, mean", (max(5.0, 1.5 + 0.45 * len(refined)), 3.5))
    places = np.arange(len(refined))
    for values, colour, name, shift in zip((initial, refined), (CURVES[5], CURVES[1]), NAMES, (-0.2, 0.2), strict=True):
        axes.bar(places + shift, list(values.values()), 0.38, color=colour, label=name)
    axes.set_xticks(places, [canvas.label(name) for name in refined])
    for tick in axes.get_xticklabels():
        tick.set(rotation=50, ha="right", rotation_mode="anchor", fontproperties=FONT, fontsize=9.5)
    return canvas.legend_above(figure, axes)
