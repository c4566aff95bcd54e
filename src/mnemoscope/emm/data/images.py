"""Images of one size as bytes, with their labels and names: what is trained on, drawn and compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mnemoscope.errors import UsageError


@dataclass(frozen=True)
class Images:
    """Images of one size, 8 bits a channel, grey or RGB; `pixels` may be memory-mapped.

    `labels` are numbers from 0 up to `num_classes`, which may exceed the largest of them: a class may be empty. Without
    labels `num_classes` is 0. `names` are the images' keys in their source. Raises `UsageError` for another number of
    channels, of labels or of names, and for labels outside the classes.
    """

    pixels: UInt8[np.ndarray, "N C H W"]
    labels: Int[np.ndarray, " N"] | None
    names: tuple[str, ...]
    num_classes: int = 0

    def __post_init__(self) -> None:
        count, channels = self.pixels.shape[:2]
        if channels not in (1, 3):
            raise UsageError(f"The images have {channels} channels; give grey (1) or RGB (3) images.")
        if len(self.names) != count:
            raise UsageError(f"{len(self.names)} names were given for {count} images; give one for each.")
        if self.labels is None:
            if self.num_classes:
                raise UsageError(f"{self.num_classes} classes were given for images without labels; give 0.")
            return
        if len(self.labels) != count:
            raise UsageError(f"{len(self.labels)} labels were given for {count} images; give one for each.")
        if count and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            low, high = self.labels.min(), self.labels.max()
            raise UsageError(f"Labels from {low} to {high} do not fit {self.num_classes} classes, numbered from 0.")

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self) -> UInt8[np.ndarray, "N D"]:
        """All channels and pixels of an image as one row of bytes."""
        return np.ascontiguousarray(self.pixels).reshape(len(self), -1)

    def take(self, places: Sequence[int] | slice | Int[np.ndarray, " K"]) -> "Images":
        """The images at these places, in this order, with the classes as they are."""
        at = np.arange(len(self))[places]
        labels = None if self.labels is None else self.labels[at]
        return Images(self.pixels[at], labels, tuple(self.names[k] for k in at), self.num_classes)

    def sha256(self) -> str:
        """Hash of the pixels, their shape, and the labels; names do not count."""
        digest = hashlib.sha256(repr((self.pixels.shape, self.num_classes)).encode())
        for start in range(0, len(self), 1024):
            digest.update(np.ascontiguousarray(self.pixels[start : start + 1024]).tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        return digest.hexdigest()

    def in_colour(self) -> "Images":
        """The same images in RGB, where grey ones have three equal channels."""
        return replace(self, pixels=np.repeat(self.pixels, 3, axis=1)) if self.pixels.shape[1] == 1 else self

    def unlabelled(self) -> "Images":
        """The same images without labels."""
        return replace(self, labels=None, num_classes=0)

    def counts(self) -> list[int]:
        """How many images each class has; empty without labels."""
        if self.labels is None:
            return []
        return np.bincount(self.labels, minlength=self.num_classes).tolist()

    def picture(self, place: int) -> Image.Image:
        """One of the images, for a file or a network that looks at it."""
        return picture(self.pixels[place])


def picture(pixels: UInt8[np.ndarray, "C H W"]) -> Image.Image:
    """Bytes as an image: grey for one channel, RGB for three."""
    return Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def resized(images: Images, resolution: int) -> Images:
    """The images at `resolution` x `resolution`: the square in the middle, by Lanczos; those of that size as they are.

    Raises `UsageError` for a resolution below 1.
    """
    if resolution < 1:
        raise UsageError(f"A resolution of {resolution} was asked for; give at least 1.")
    if images.pixels.shape[2:] == (resolution, resolution):
        return images
    made = np.empty((len(images), images.pixels.shape[1], resolution, resolution), np.uint8)
    for place, pixels in enumerate(images.pixels):
        small = np.asarray(fitted(picture(pixels), resolution))
        made[place] = small[None] if small.ndim == 2 else small.transpose(2, 0, 1)
    return replace(images, pixels=made)


def fitted(image: Image.Image, resolution: int) -> Image.Image:
    """The square in the middle of an image, by Lanczos at `resolution` x `resolution`."""
    if image.size == (resolution, resolution):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)
