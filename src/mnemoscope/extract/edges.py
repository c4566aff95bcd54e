"""Edges that one step draws whatever the seed (Webster, arXiv:2305.08694)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mnemoscope.measuring.same_size import squashed

SIDE, STRONG, OFTEN = 256, 1.5, 0.5


def edge_consistency(images: Sequence[Image.Image]) -> float:
    """Share of pixels that have an edge in more than half of the images of one step, in [0, 1]; higher is memorized.

    Images are taken at 256 by 256 and in [0, 1]; an edge is a magnitude of Sobel's operator, summed over red, green and
    blue, above 1.5. Memorized prompts give sharp images after one step, and the same ones; others a blur.
    """
    maps = np.stack([_edges(image) for image in images])
    return float((maps.mean(axis=0) > OFTEN).mean())


def _edges(image: Image.Image) -> Bool[np.ndarray, "S S"]:
    pixels = np.pad(squashed([image], SIDE)[0] / 255, ((1, 1), (1, 1), (0, 0)), mode="edge")
    smooth = [pixels[:-2] + 2 * pixels[1:-1] + pixels[2:], pixels[:, :-2] + 2 * pixels[:, 1:-1] + pixels[:, 2:]]
    across, down = smooth[0][:, 2:] - smooth[0][:, :-2], smooth[1][2:] - smooth[1][:-2]
    return np.hypot(across, down).sum(axis=2) > STRONG
