"""Whether simple training images are copied more: similarity against the complexity of the matched image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, FONT, INK, one_axes

AXES = {
    "entropy": "entropy of the grey levels (nats)",
    "jpeg_size": "size as a JPEG of quality 90 (KiB)",
    "total_variation": "total variation (1e-4 of the grey levels)",
    "mixed": "entropy x root of the JPEG size",
}


def complexity_plots(
    similarity: Float[np.ndarray, " N"],
    quantities: Mapping[str, Float[np.ndarray, " N"]],
    correlations: Mapping[str, Mapping[str, Any]],
) -> dict[str, Figure]:
    """A scatter plot for each measure of complexity: images' similarity to the training image that each matches best.

    The title has Pearson's and Spearman's correlations where they are known, each with its p where that is known.
    Raises UsageError for no image, or numbers of values that differ.
    """
    if not similarity.size or any(values.size != similarity.size for values in quantities.values()):
        raise UsageError("A scatter plot needs one similarity and one complexity for each of at least one image.")
    return {name: _scatter(name, similarity, quantities[name], correlations.get(name, {})) for name in quantities}


def _scatter(
    name: str, similarity: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], correlation: Mapping[str, Any]
) -> Figure:
    figure, axes = one_axes(AXES.get(name, name), "similarity to the matched image")
    opacity = float(np.clip(40 / np.sqrt(similarity.size) / 4, 0.15, 0.8))
    axes.scatter(values, similarity, s=16, color=CURVES[0], alpha=opacity, linewidths=0)
    lines = [
        f"{label} {correlation[key]:.2f}" + ("" if (p := correlation.get(f"{key}_p")) is None else f" (p = {p:.2g})")
        for key, label in (("pearson", "Pearson r"), ("spearman", "Spearman r"))
        if correlation.get(key) is not None
    ]
    axes.set_title(", ".join(lines), fontproperties=FONT, fontsize=9.5, color=INK)
    return figure
