"""Patches of two photographs: natural images that need nothing from a network."""

import numpy as np
from PIL import Image

from mnemoscope.emm.data.images import Images
from mnemoscope.errors import UsageError

SIDE = 8


def photograph_patches() -> Images:
    """Grey patches of 8 x 8 pixels that tile the two photographs of scikit-learn, halved, each photograph a class.

    Raises `UsageError` without scikit-learn.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as e:
        raise UsageError("The photographs are those of scikit-learn; run pip install 'mnemoscope[digits]'.") from e
    tiles = [_tiles(Image.fromarray(pixels)) for pixels in load_sample_images().images]
    labels = np.repeat(np.arange(len(tiles)), [len(each) for each in tiles])
    pixels = np.concatenate(tiles)[:, None]
    return Images(pixels, labels, tuple(f"patches:{place}" for place in range(len(pixels))), len(tiles))


def _tiles(photograph: Image.Image) -> np.ndarray:
    halved = np.asarray(photograph.convert("L").reduce(2))
    rows, columns = (side // SIDE for side in halved.shape)
    cut = halved[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE)
