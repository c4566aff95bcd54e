"""What a picture shows without any model: two sets that differ in it differ whether or not one was trained on."""

import math

import numpy as np
from jaxtyping import Float
from PIL import Image

SIDE = 64  # at which pictures of all sizes are compared


def plain_features(image: Image.Image, caption: str, size: int) -> dict[str, float]:
    """Brightness, colour, contrast, detail, shape, bytes a pixel and length of the caption, of one picture.

    `size` is that of its file in bytes. The model plays no part, so that these are what a set is told apart by where
    it is of another kind than the other one (blind baselines, arXiv:2406.16201).
    """
    width, height = image.size
    pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64) / 255
    grey = pixels.mean(2)
    means, deviations = pixels.mean((0, 1)), pixels.std((0, 1))
    return {
        "red": float(means[0]),
        "green": float(means[1]),
        "blue": float(means[2]),
        "contrast": float(deviations.mean()),
        "colourfulness": float((pixels.max(2) - pixels.min(2)).mean()),
        "edges": math.log1p(1e3 * _edges(grey)),
        "fine_detail": math.log1p(1e3 * _fine(grey)),
        "pixels": math.log(width * height),
        "shape": math.log(width / height),
        "bytes": math.log(size / (width * height)),
        "caption": math.log1p(len(caption)),
    }


def _edges(grey: Float[np.ndarray, "h w"]) -> float:
    """Mean squared difference of neighbours."""
    return float(np.diff(grey, axis=0).var() + np.diff(grey, axis=1).var())


def _fine(grey: Float[np.ndarray, "h w"]) -> float:
    """Mean squared second difference: what is left of the edges where they are sharp."""
    return float(np.diff(grey, 2, axis=0).var() + np.diff(grey, 2, axis=1).var())
