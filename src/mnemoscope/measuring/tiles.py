"""How far images are apart where they differ most: the distance that Carlini et al. extract training images by."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8

from mnemoscope.errors import UsageError

Images = UInt8[np.ndarray, "N H W C"]


def tiled_distance(
    a: UInt8[np.ndarray, "N H W C"], b: UInt8[np.ndarray, "M I V C"], *, tiles: int = 4
) -> Float[np.ndarray, "N M"]:
    """Largest distance of any tile of each image of `a` to the same tile of each image of `b`.

    The distance of a tile is the root of the mean square of the differences of its pixels, black 0 and white 1, so
    that all is in [0, 1] whatever the size of images and tiles; arXiv:2301.13188 calls images below 0.15 extracted.
    `tiles` by `tiles` tiles cover the image, 4 by 4 of 128 pixels at 512 by 512; 1 is the plain distance. The largest
    tile keeps images with equal backgrounds apart. Raises UsageError for images of two sizes, or more tiles than
    pixels across.
    """
    if a.shape[1:] != b.shape[1:]:
        raise UsageError(f"Images of {_size(a)} and of {_size(b)} pixels were given; resize them to one size.")
    if not 1 <= tiles <= min(a.shape[1:3]):
        raise UsageError(f"{tiles} tiles across were asked for of images of {_size(a)} pixels; ask for 1 to that many.")
    distances = np.zeros((len(a), len(b)))
    for place in _places(a.shape[1], a.shape[2], tiles):
        distances = np.maximum(distances, _mean_squares(a[:, *place], b[:, *place]))
    return np.sqrt(distances) / 255


def _places(height: int, width: int, tiles: int) -> Iterator[tuple[slice, slice]]:
    rows, columns = (np.linspace(0, side, tiles + 1).round().astype(int).tolist() for side in (height, width))
    for top, bottom in zip(rows, rows[1:], strict=False):
        for left, right in zip(columns, columns[1:], strict=False):
            yield slice(top, bottom), slice(left, right)


def _mean_squares(a: Images, b: UInt8[np.ndarray, "M H W C"]) -> Float[np.ndarray, "N M"]:
    """Exact: sums of products of bytes are whole numbers far below 2^53."""
    x, y = (side.reshape(len(side), -1).astype(np.float64) for side in (a, b))
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return squares / x.shape[1]


def _size(images: np.ndarray) -> str:
    return f"{images.shape[2]} x {images.shape[1]}"
