"""The pictures of a report; pure functions of numbers."""

from mnemoscope.plots.arms import arms_plot, doses_plot
from mnemoscope.plots.canvas import kept, png, save
from mnemoscope.plots.complexity import complexity_plots
from mnemoscope.plots.emm import along_plot, bars_plot, sizes_plot
from mnemoscope.plots.found import found_plot
from mnemoscope.plots.neurons import layer_plot, set_size_plot
from mnemoscope.plots.probes import probes_plot
from mnemoscope.plots.regions import cutout, overlay, threshold_plot
from mnemoscope.plots.scores import class_of, density_plot, roc_plot
from mnemoscope.plots.series import series_plot
from mnemoscope.plots.similarity import duplication_plot, own_plot, share_curve_plot, similarity_histogram
from mnemoscope.plots.stages import stages_plot
from mnemoscope.plots.tradeoff import tradeoff_plot
from mnemoscope.plots.training import ratio_plot, training_plot
from mnemoscope.plots.words import word_plot

__all__ = [
    "along_plot",
    "arms_plot",
    "bars_plot",
    "class_of",
    "complexity_plots",
    "cutout",
    "density_plot",
    "doses_plot",
    "duplication_plot",
    "found_plot",
    "layer_plot",
    "overlay",
    "own_plot",
    "png",
    "probes_plot",
    "ratio_plot",
    "roc_plot",
    "kept",
    "save",
    "series_plot",
    "set_size_plot",
    "share_curve_plot",
    "similarity_histogram",
    "sizes_plot",
    "stages_plot",
    "threshold_plot",
    "tradeoff_plot",
    "training_plot",
    "word_plot",
]
