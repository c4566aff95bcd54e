"""Images as 8-bit pixels of one size, so that they can be compared pixel by pixel."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mnemoscope.features.geometry import Geometry


def squashed(images: Iterable[Image.Image], side: int) -> UInt8[np.ndarray, "N S S 3"]:
    """Images in RGB, antialiased to `side` by `side` pixels whatever their shape; an image of this size as it is."""
    square = Geometry(square=side)
    arrays = [np.asarray(image if image.size == (side, side) else square(image)) for image in map(_rgb, images)]
    return np.stack(arrays) if arrays else np.empty((0, side, side, 3), np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    return Geometry()(image)
