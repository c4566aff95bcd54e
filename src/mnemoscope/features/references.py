"""Training images to compare what is drawn with: any source of pictures, with its captions."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mnemoscope import features
from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor
from mnemoscope.pictures import Picture, Source, Unreadable, open_source
from mnemoscope.pictures.columns import folded
from mnemoscope.pictures.counting import CaptionCounts, caption_counts

Vectors = Float[np.ndarray, "N D"]


class ReferenceSummary(TypedDict):
    """What a run says of its references: pictures that could not be read, and captions."""

    unread_references: list[str]
    reference_captions: CaptionCounts


class References:
    """Reference images with their vectors, by a descriptor or their pixels; `unread` lists the unreadable, and why.

    `captions` counts those with and without a caption, and captions of their source that fit none. A caption may be
    that of several. Raises `UsageError` for a descriptor whose vectors have no unit length.
    """

    def __init__(
        self, pictures: Iterable[Picture], source: Source | None = None, *, descriptor: Descriptor | None = None
    ) -> None:
        if descriptor is not None and not descriptor.unit:
            raise UsageError(f"Vectors of {descriptor.identity} have no similarity; use sscd, clip, dino or pixels.")
        self.descriptor, self.upsampled = descriptor, 0
        self.vectors_of: Callable[[Sequence[Image.Image]], Vectors] = descriptor or features.pixels
        self.items: list[Picture] = []
        self.unread: list[str] = []
        vectors, captioned = [], []
        for picture in pictures:
            captioned.append(bool(picture.captions))
            try:
                image = picture.image()
                vectors.append(self.vectors_of([image]))
                self.upsampled += descriptor.upsampled([image]) if descriptor else 0
                self.items.append(picture)
            except Unreadable as e:
                self.unread.append(f"{picture.key}: {e.reason}")
        if not vectors:
            why = f" ({self.unread[0]})" if self.unread else ""
            raise UsageError(f"None of the references is a readable image{why}; give images as --references.")
        self.vectors = np.concatenate(vectors)
        self.captions: CaptionCounts = caption_counts(captioned, source)
        self.by_caption: dict[str, list[int]] = {}
        for place, picture in enumerate(self.items):
            for caption in dict.fromkeys(map(folded, picture.captions)):
                self.by_caption.setdefault(caption, []).append(place)

    def nearest(self, images: Sequence[Image.Image]) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Index of the most similar reference of each image, and the cosine of their vectors."""
        return self._nearest(self.vectors_of(images))

    def own(self, image: Image.Image, caption: str) -> float | None:
        """Cosine with the most similar of the references that have the same caption, if there is one."""
        return self._own(self.vectors_of([image])[0], caption)

    def beside(self, image: Image.Image, caption: str) -> tuple[int, float, float | None]:
        """Index of the most similar reference, its cosine, and that of the caption's own references."""
        vectors = self.vectors_of([image])
        best, similarity = self._nearest(vectors)
        return int(best[0]), float(similarity[0]), self._own(vectors[0], caption)

    def _nearest(self, vectors: Vectors) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        similarity = vectors @ self.vectors.T
        best = similarity.argmax(axis=1)
        return best, similarity[np.arange(len(best)), best]

    def _own(self, vector: Float[np.ndarray, " D"], caption: str) -> float | None:
        places = self.by_caption.get(folded(caption))
        return None if places is None else float((self.vectors[places] @ vector).max())

    def summary(self) -> ReferenceSummary:
        """What a run says of them: pictures that could not be read, and captions."""
        return {"unread_references": self.unread, "reference_captions": self.captions}


def read_references(
    source: str | Path,
    *,
    captions: Path | None = None,
    column: str | None = None,
    descriptor: Descriptor | None = None,
) -> References:
    """The references of a source, as `read_pictures` takes it; raises `UsageError` if none can be read."""
    opened = open_source(source, captions=captions, column=column)
    return References(opened, opened, descriptor=descriptor)
