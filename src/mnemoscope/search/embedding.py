"""Pictures to vectors: decoded side by side, in batches that bound the memory, each failure with its reason."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.pictures import Picture, Unreadable
from mnemoscope.pictures.decoding import decoded_in_thread

if TYPE_CHECKING:
    from mnemoscope.features import Descriptor

MEGAPIXELS = 64  # decoded at most before the descriptor gets them, but for the last image


@dataclass
class Embedded:
    """A picture with its vector, or with the reason why it has none."""

    picture: Picture
    size: tuple[int, int] | None = None
    sha256: str | None = None
    status: str = "ok"
    reason: str | None = None
    vector: Float[np.ndarray, " D"] | None = None


def embedded(pictures: Iterable[Picture], descriptor: "Descriptor", batch: int) -> Iterator[Embedded]:
    """Every picture in order with its vector, `batch` at a time, fewer where they are large."""
    waiting: list[tuple[Embedded, Image.Image | None]] = []
    pixels = 0
    for row, image in _decoded(pictures):
        waiting.append((row, image))
        pixels += image.width * image.height if image else 0
        if len(waiting) >= batch or pixels > MEGAPIXELS * 1e6:
            yield from _with_vectors(waiting, descriptor)
            waiting, pixels = [], 0
    yield from _with_vectors(waiting, descriptor)


def _decoded(pictures: Iterable[Picture]) -> Iterator[tuple[Embedded, Image.Image | None]]:
    """Every picture with its pixels, as many at a time as there are cores."""
    from mnemoscope.features.descriptors import cores, side_by_side

    left = iter(pictures)
    while group := list(islice(left, cores())):
        with warnings.catch_warnings(action="ignore"):
            done = side_by_side(_attempt, group)
        yield from done


def _attempt(picture: Picture) -> tuple[Embedded, Image.Image | None]:
    attempt = Embedded(picture)
    try:
        data = picture.data()
        attempt.sha256 = hashlib.sha256(data).hexdigest()
        image = decoded_in_thread(data)
    except Unreadable as e:
        attempt.status, attempt.reason = e.status, e.reason
        return attempt, None
    attempt.size = image.size
    return attempt, image


def _with_vectors(waiting: list[tuple[Embedded, Image.Image | None]], descriptor: "Descriptor") -> Iterator[Embedded]:
    images = [image for _, image in waiting if image is not None]
    vectors = iter(descriptor(images) if images else ())
    for row, image in waiting:
        if image is not None:
            row.vector = next(vectors)
        yield row
