"""Bars for the words of a prompt, one place a word however often it is repeated."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots import canvas
from mnemoscope.plots.canvas import CURVES, FONT, GREY

LONGEST = 18  # characters of a word below its bar
WIDTHS = (5.0, 22.0)  # of a figure, in inches


def word_plot(
    words: Sequence[str], values: Mapping[str, Sequence[int | float]], *, label: str = "attribution"
) -> Figure:
    """One bar a word and method, at the word's place in the prompt, so that a repeated word keeps a bar each time.

    `values` has the name of each method with one value a word; several methods stand side by side, named in a legend.
    Raises UsageError for no word, no method, or a method with another number of values than there are words.
    """
    if not words or not values:
        raise UsageError("There is nothing to draw; give at least one word and the values of one method.")
    for name, scores in values.items():
        if len(scores) != len(words):
            raise UsageError(f"{name} has {len(scores)} values for {len(words)} words; give one value a word.")
    width = float(np.clip(1.2 + len(words) * (0.22 + 0.13 * len(values)), *WIDTHS))
    figure, axes = canvas.one_axes("", label, (width, 3.2))
    places, bar = np.arange(len(words)), 0.8 / len(values)
    for k, (name, scores) in enumerate(values.items()):
        shift = (k - (len(values) - 1) / 2) * bar
        axes.bar(places + shift, scores, 0.94 * bar, color=CURVES[k % len(CURVES)], label=canvas.label(name))
    axes.set_xticks(places, [_short(word) for word in words])
    axes.tick_params(axis="x", length=0)
    for tick in axes.get_xticklabels():
        tick.set(rotation=50, ha="right", rotation_mode="anchor", fontproperties=FONT, fontsize=9.5)
    axes.set_xlim(-0.6, len(words) - 0.4)
    axes.margins(y=0.06)
    if any(value < 0 for scores in values.values() for value in scores):
        axes.axhline(0, color=GREY, linewidth=0.8)
    return canvas.legend_above(figure, axes) if len(values) > 1 else figure


def _short(word: str) -> str:
    return canvas.label(word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…")
