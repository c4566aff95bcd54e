"""Vectors kept on disk by the content of the images: computed once, whoever asks, however often it is killed."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor
from mnemoscope.run.writing import write_whole

IMAGES, MEGAPIXELS = 64, 64  # what waits in memory for the descriptor
VECTORS, BYTES = 256, 2**26  # what waits in memory for the disk

Kept = tuple[np.ndarray, bool]


@runtime_checkable
class Pictured(Protocol):
    """An image of a source, such as a `Picture`: it says what its bytes are and decodes them."""

    def sha256(self) -> str: ...

    def image(self) -> Image.Image: ...


class Cache:
    """Vectors of one descriptor in a folder, by the SHA-256 of an image's bytes.

    Each identity has a folder of its own. Files are written whole under a name made of their content, so that several
    processes may use one cache and a killed one loses at most the vectors of its last seconds. Nothing is pickled.
    `upsampled` is how many of the pictures asked for last were smaller than what the network sees.
    """

    def __init__(self, folder: Path | str, descriptor: Descriptor) -> None:
        identity = descriptor.identity
        self.descriptor = descriptor
        self.folder = Path(folder) / str(identity).replace(" ", "-")
        self.upsampled = 0
        self._dtype = np.dtype([("sha256", "S64"), ("upsampled", "?"), ("vector", "<f4", (identity.dimension,))])
        self._known: dict[str, Kept] = {}
        self._new: dict[str, Kept] = {}
        for file in sorted(self.folder.glob("*.npy")):
            self._learn(file)

    def vectors(self, pictures: Iterable[Pictured]) -> tuple[Float[np.ndarray, "N D"], dict[int, str]]:
        """Vectors of the pictures that can be read, in order, and why not for the others, by position."""
        from mnemoscope.pictures import Unreadable

        order: list[str] = []
        failures: dict[int, str] = {}
        waiting: dict[str, Image.Image] = {}
        try:
            for position, picture in enumerate(pictures):
                try:
                    content = picture.sha256()
                    if content not in self._known and content not in self._new and content not in waiting:
                        waiting[content] = picture.image()
                except Unreadable as e:
                    failures[position] = str(e)
                    continue
                order.append(content)
                if len(waiting) >= IMAGES or sum(i.width * i.height for i in waiting.values()) > MEGAPIXELS * 1e6:
                    self._compute(waiting)
            self._compute(waiting)
        finally:
            self._save()
        gathered = np.empty((len(order), self.descriptor.identity.dimension), dtype=np.float32)
        for row, content in enumerate(order):
            gathered[row] = self._known[content][0]
        self.upsampled = sum(self._known[content][1] for content in order)
        return gathered, failures

    def _compute(self, waiting: dict[str, Image.Image]) -> None:
        vectors = self.descriptor(list(waiting.values()))
        for (content, image), vector in zip(waiting.items(), vectors, strict=True):
            self._new[content] = vector, self.descriptor.upsampled([image]) > 0
        waiting.clear()
        if len(self._new) >= VECTORS or len(self._new) * self._dtype.itemsize > BYTES:
            self._save()

    def _save(self) -> None:
        if not self._new:
            return
        records = np.empty(len(self._new), dtype=self._dtype)
        records["sha256"] = [content.encode() for content in self._new]
        records["vector"], records["upsampled"] = zip(*self._new.values(), strict=True)
        file = self.folder / f"{hashlib.sha256(records.tobytes()).hexdigest()[:16]}.npy"
        write_whole(file, lambda opened: np.save(opened, records, allow_pickle=False))
        self._new = {}
        self._learn(file)

    def _learn(self, file: Path) -> None:
        try:
            records = np.load(file, mmap_mode="r", allow_pickle=False)
            if records.dtype != self._dtype:
                raise ValueError("other columns")
        except (ValueError, OSError, EOFError) as e:
            raise UsageError(f"{file} is damaged; delete it, and its vectors are computed again.") from e
        vectors = np.asarray(records["vector"])  # still on disk
        small = records["upsampled"].tolist()
        self._known |= {c.decode(): (vectors[k], small[k]) for k, c in enumerate(records["sha256"].tolist())}
