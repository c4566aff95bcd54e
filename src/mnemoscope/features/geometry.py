"""Resizing and cropping on PIL by torchvision's rules, so that scores equal those of the published code."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mnemoscope.features.alpha import opaque

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LONGEST = 10  # of an image that is more times as long as it is wide, a network sees the middle

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Geometry:
    """What becomes of an image before a network sees it: shorter side or whole image resized, then a centre crop.

    `short` is the length of the shorter side, `square` that of both sides of an image that is squashed; without either
    the size stays. `crop` is the side of the square in the middle that is kept.
    """

    short: int | None = None
    square: int | None = None
    crop: int | None = None
    resample: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image in RGB at the size that the network sees."""
        image = opaque(image)
        if self.short is not None:
            image = short_side(middle(image), self.short, FILTERS[self.resample])
        if self.square is not None:
            image = image.resize((self.square, self.square), FILTERS[self.resample])
        return image if self.crop is None else centre_crop(image, self.crop)

    def enlarges(self, width: int, height: int) -> bool:
        """Whether the shorter side of an image of this size is shorter than the one that the network gets."""
        return min(width, height) < (self.short or self.square or 0)


def middle(image: Image.Image) -> Image.Image:
    """The middle of an image that is more than ten times as long as wide, which would fill the memory when resized."""
    width, height = image.size
    most = LONGEST * min(width, height)
    if max(width, height) <= most:
        return image
    left, top = max(width - most, 0) // 2, max(height - most, 0) // 2
    return image.crop((left, top, left + min(width, most), top + min(height, most)))


def resized(width: int, height: int, short: int) -> tuple[int, int]:
    """Width and height when the shorter side becomes `short`: the longer one is cut to an integer, not rounded."""
    longer = int(short * max(width, height) / min(width, height))
    return (short, longer) if width <= height else (longer, short)


def short_side(image: Image.Image, short: int, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
    """The image with its shorter side at `short` pixels, antialiased; unchanged if it has that size already."""
    return image if min(image.size) == short else image.resize(resized(*image.size, short), resample)


def squashed_in_float(image: Image.Image, side: int) -> Float[np.ndarray, "side side 3"]:
    """The image at `side` times `side`, bicubic, each channel in float so that nothing is rounded; from 0 to 255.

    This is how clean-fid resizes (arXiv:2104.11222).
    """
    channels = [c.convert("F").resize((side, side), Image.Resampling.BICUBIC) for c in opaque(image).split()]
    return np.stack([np.asarray(channel).clip(0, 255) for channel in channels], axis=-1)


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """The square in the middle; offsets are rounded to the nearest integer, halves to the even one.

    An image that is smaller gets a black border first, the odd line of it at the right and the bottom.
    """
    width, height = image.size
    if width < side or height < side:
        left, top = max(side - width, 0) // 2, max(side - height, 0) // 2
        padded = Image.new(image.mode, (max(width, side), max(height, side)))
        padded.paste(image, (left, top))
        image, (width, height) = padded, padded.size
    left, top = round((width - side) / 2), round((height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def normalised(
    array: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"], statistics: Statistics
) -> Float[np.ndarray, "3 h w"]:
    """Levels over 255, minus a mean and over a standard deviation for each channel; channels first, float32."""
    mean, deviation = (np.array(values, dtype=np.float32) for values in statistics)
    return np.ascontiguousarray(((array.astype(np.float32) / 255 - mean) / deviation).transpose(2, 0, 1))


def remapped(array: UInt8[np.ndarray, "h w 3"], wanted: Statistics, built_in: Statistics) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels that, normalised by the statistics built into a network, give what others would give of these pixels.

    Exact up to rounding to whole grey levels. Raises `ValueError` if the values do not fit into 8 bits.
    """
    levels = np.arange(256)[:, None] / 255
    (mean, deviation), (own_mean, own_deviation) = (np.array(s) for s in (wanted, built_in))
    table = 255 * ((levels - mean) / deviation * own_deviation + own_mean)  # (256, 3)
    if table.min() < -0.5 or table.max() > 255.5:
        raise ValueError(f"pixels from {table.min():.0f} to {table.max():.0f} do not fit into 8 bits")
    whole = np.rint(table).astype(np.uint8)
    return np.stack([whole[array[..., channel], channel] for channel in range(3)], axis=-1)
