"""Writes geometry.npz: what resizing and cropping must give, computed without PIL.

    python tests/helpers/geometry_cases.py

Sizes and offsets follow torchvision's published rules (`Resize(int)`, `Resize((h, w))`, `CenterCrop`) in exact
arithmetic: the longer side is the fraction cut to an integer, an offset is rounded half to even. Pixels come from
torch's antialiased interpolation of 8-bit images, which torchvision itself uses for tensors and which shares no code
with PIL. torchvision has no build for the CPU wheels of torch, so it could not be asked.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import numpy as np
import torch

from places import FIXTURES

CASES = {  # width, height, shorter side, square, crop, filter
    "wide down": (61, 40, 24, 0, 0, "bilinear"),
    "tall down": (40, 61, 24, 0, 0, "bicubic"),
    "wide up": (20, 13, 32, 0, 0, "bilinear"),
    "tall up": (13, 20, 32, 0, 0, "bicubic"),
    "squash": (50, 31, 0, 24, 0, "bilinear"),
    "dcr": (71, 47, 32, 0, 28, "bilinear"),
    "odd crop": (45, 33, 30, 0, 23, "bilinear"),
    "clip": (33, 64, 28, 0, 28, "bicubic"),
    "same size": (48, 32, 32, 0, 27, "bilinear"),
    "in float": (31, 50, 0, 40, 0, "bicubic"),
    "border": (25, 38, 0, 0, 32, "bilinear"),
}


def picture(width: int, height: int, seed: int) -> np.ndarray:
    """A gradient with edges and noise in three channels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 3 + y / 5)], axis=-1)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 128)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def resized(array: np.ndarray, width: int, height: int, mode: str) -> np.ndarray:
    """Rounded to 8 bits after each direction, as torchvision does; not at all for an array of floats."""
    batch = torch.from_numpy(array).permute(2, 0, 1)[None]
    out = torch.nn.functional.interpolate(batch, (height, width), mode=mode, antialias=True, align_corners=False)
    return out[0].permute(1, 2, 0).numpy()


def offset(length: int, side: int) -> int:
    return int((Decimal(length - side) / 2).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def cropped(array: np.ndarray, side: int) -> np.ndarray:
    missing = [max(side - length, 0) for length in array.shape[:2]]
    array = np.pad(array, [*((m // 2, (m + 1) // 2) for m in missing), (0, 0)])
    top, left = (offset(length, side) for length in array.shape[:2])
    return array[top : top + side, left : left + side]


def expected(array: np.ndarray, short: int, square: int, crop: int, mode: str) -> np.ndarray:
    height, width = array.shape[:2]
    if short and short != min(width, height):
        longer = int(Fraction(short * max(width, height), min(width, height)))
        array = resized(array, *((short, longer) if width <= height else (longer, short)), mode)
    if square:
        array = resized(array, square, square, mode)
    return cropped(array, crop) if crop else array


def main() -> None:
    arrays = {}
    for seed, (name, (width, height, *how)) in enumerate(CASES.items()):
        given = picture(width, height, seed)
        used = given.astype(np.float64) if name == "in float" else given
        arrays |= {f"{name}/given": given, f"{name}/expected": expected(used, *how)}
    arrays["in float/expected"] = arrays["in float/expected"].astype(np.float32)
    np.savez_compressed(FIXTURES / "geometry.npz", **arrays)


if __name__ == "__main__":
    main()
