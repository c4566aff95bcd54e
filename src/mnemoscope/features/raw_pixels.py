"""The images' own pixels as vectors: no network, no weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.alpha import opaque
from mnemoscope.features.descriptors import Descriptor, chosen
from mnemoscope.features.geometry import Geometry
from mnemoscope.features.identity import Identity

PIXELS_SIZE = 32
PRESET = f"pixels-{PIXELS_SIZE}"
LEAST_NORM = 1e-3  # one pixel that differs by one grey level has 0.004; what lies below is rounding
COPY = 0.8  # the bundled model's copies of its training images exceed it, different training images do not


def pixels(images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
    """Unit vectors of the images' own pixels, 32 x 32 in RGB with the mean colour of each image removed.

    Their cosine is 1 for a copy up to brightness and contrast and about 0 for unrelated images; it sees neither shifts
    nor crops as copies. Transparent images lie on white. An image of a single colour is about zero, like nothing.
    """
    small = np.stack([np.asarray(opaque(i).resize((PIXELS_SIZE,) * 2, Image.Resampling.BOX)) for i in images])
    vectors = small.astype(np.float64) / 255
    vectors -= vectors.mean(axis=(1, 2), keepdims=True)
    flat = vectors.reshape(len(vectors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), LEAST_NORM)


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """Pixels, which have no weights and need no device."""
    chosen("pixels", preset, [PRESET])
    if weights is not None:
        raise UsageError("The features pixels have no weights; leave them out.")
    return Pixels()


class Pixels(Descriptor):
    """`pixels` as a descriptor, in float32."""

    def __init__(self) -> None:
        identity = Identity("pixels", PRESET, "none", 3 * PIXELS_SIZE**2)
        super().__init__(identity, Geometry(square=PIXELS_SIZE), threshold=COPY)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        return pixels(images).astype(np.float32)
