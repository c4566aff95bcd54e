"""The pictures of a report; pure functions of numbers."""

from mnemoscope.plots.canvas import png, save
from mnemoscope.plots.scores import class_of, density_plot, roc_plot, series_plot
from mnemoscope.plots.tradeoff import tradeoff_plot
from mnemoscope.plots.words import word_plot

__all__ = ["class_of", "density_plot", "png", "roc_plot", "save", "series_plot", "tradeoff_plot", "word_plot"]
