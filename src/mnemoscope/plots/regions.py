"""Region maps laid over images, and how well they overlap the truth at every threshold."""

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from PIL import Image

from mnemoscope.plots.canvas import CURVES, GREY, legend, one_axes

STRENGTH, DIMMED = 0.65, 0.12  # of the colours over the image, and of what is outside a region
COLOURS = "inferno"


def overlay(image: Image.Image, heat: Float[np.ndarray, "H W"]) -> Image.Image:
    """An image in grey under the colours of a map from 0 (black) to 1 (yellow), at the map's size."""
    grey = np.asarray(image.convert("L").resize(heat.shape[::-1], Image.Resampling.BILINEAR), float)[..., None]
    colours = matplotlib.colormaps[COLOURS](heat.clip(0, 1))[..., :3] * 255
    return Image.fromarray(((1 - STRENGTH) * grey + STRENGTH * colours).round().astype(np.uint8))


def cutout(image: Image.Image, region: Bool[np.ndarray, "H W"]) -> Image.Image:
    """An image of which only a region is bright, at the region's size."""
    pixels = np.asarray(image.convert("RGB").resize(region.shape[::-1], Image.Resampling.BILINEAR), float)
    return Image.fromarray(np.where(region[..., None], pixels, DIMMED * pixels).round().astype(np.uint8))


def threshold_plot(
    thresholds: Float[np.ndarray, " T"], overlap: Float[np.ndarray, " T"], all_ones: int | float
) -> Figure:
    """Overlap with the truth at each threshold of the scaled maps, beside that of a mask of all pixels."""
    figure, axes = one_axes("threshold of the scaled maps", "intersection over union")
    axes.plot(thresholds, overlap, color=CURVES[0], linewidth=1.8, label="maps")
    axes.axhline(all_ones, color=GREY, linewidth=1.2, linestyle="--", label="all pixels")
    axes.set_ylim(0, 1.02)
    return legend(figure, axes)
