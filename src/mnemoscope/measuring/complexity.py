"""How much there is to see in an image: entropy of its grey levels, size as a JPEG, total variation."""

import io
import math

import numpy as np
from PIL import Image

from mnemoscope.features.alpha import opaque
from mnemoscope.features.geometry import Geometry

QUALITY = 90
MEGAPIXEL = 1e6
VARIATION = 1e-4


def complexity(image: Image.Image) -> dict[str, float]:
    """Entropy, JPEG size, total variation and their mix, of an image as it is; transparency lies on white.

    All grow with the image's complexity, and all but the entropy and the size per megapixel with its area, so that
    they compare only at one size: the published numbers are of `at_size(image, 224)`. `mixed` is the entropy in nats
    times the root of the JPEG size. Somepalli et al., arXiv:2305.20086.
    """
    nats, size = entropy(image), jpeg_size(image)
    return {
        "entropy": nats,
        "entropy_bits": nats / math.log(2),
        "jpeg_size": size,
        "jpeg_size_per_megapixel": size * MEGAPIXEL / (image.width * image.height),
        "total_variation": total_variation(image),
        "mixed": nats * math.sqrt(size),
    }


def at_size(image: Image.Image, size: int | None) -> Image.Image:
    """The square in the middle, the shorter side resized to `size` before; as it is, in RGB, if that is None."""
    return (Geometry() if size is None else Geometry(short=size, crop=size))(image)


def entropy(image: Image.Image) -> float:
    """Entropy of the histogram of 8-bit grey levels (ITU-R 601) in nats, in [0, ln 256 = 5.545]."""
    counts = np.bincount(np.asarray(opaque(image).convert("L")).ravel())
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() + 0.0)


def jpeg_size(image: Image.Image) -> float:
    """Size in KiB of the image as a JPEG file of quality 90 with colours at half resolution, as PIL writes it."""
    file = io.BytesIO()
    opaque(image).save(file, "JPEG", quality=QUALITY)
    return file.tell() / 1024


def total_variation(image: Image.Image) -> float:
    """1e-4 times the sum of absolute differences of neighbours, right and below, over three channels of 0 to 255."""
    levels = np.asarray(opaque(image)).astype(np.int64)
    return VARIATION * int(sum(np.abs(np.diff(levels, axis=axis)).sum() for axis in (0, 1)))
