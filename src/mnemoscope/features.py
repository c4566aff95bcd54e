"""Images as vectors that can be compared."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

PIXELS_SIZE = 32
LEAST_NORM = 1e-3  # one pixel that differs by one grey level has 0.004; what lies below is rounding


def pixels(images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
    """Unit vectors of the images' own pixels, 32 x 32 in RGB with the mean colour of each image removed.

    Their cosine is 1 for a copy up to brightness and contrast and about 0 for unrelated images; it sees neither shifts
    nor crops as copies. Transparent images lie on white. An image of a single colour is about zero, like nothing.
    """
    small = np.stack([np.asarray(_opaque(i).resize((PIXELS_SIZE,) * 2, Image.Resampling.BOX)) for i in images])
    vectors = small.astype(np.float64) / 255
    vectors -= vectors.mean(axis=(1, 2), keepdims=True)
    flat = vectors.reshape(len(vectors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), LEAST_NORM)


def transparent(image: Image.Image) -> bool:
    """Whether an image has an alpha channel or a transparent colour."""
    return "A" in image.getbands() or "transparency" in image.info


def _opaque(image: Image.Image) -> Image.Image:
    if not transparent(image):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
