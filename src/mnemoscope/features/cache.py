"""Vectors kept on disk by the content of the images: computed once, whoever asks, however often it is killed."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor
from mnemoscope.run import runner
from mnemoscope.run.writing import write_whole

IMAGES, MEGAPIXELS = 64, 64  # that are described together, and what of them is decoded at a time
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

        order: dict[int, str] = {}
        failures: dict[int, str] = {}
        sent: deque[dict[str, Pictured]] = deque()

        def unknown() -> Iterator[list[Pictured]]:
            asked, waiting = set[str](), dict[str, Pictured]()
            for position, picture in enumerate(pictures):
                try:
                    content = order[position] = picture.sha256()
                except Unreadable as e:
                    failures[position] = str(e)
                    continue
                if content not in self._known and content not in asked:
                    waiting[content] = picture
                    asked.add(content)
                if len(waiting) == IMAGES:
                    sent.append(waiting)
                    yield list(waiting.values())
                    waiting = {}
            sent.append(waiting)
            yield list(waiting.values())

        unread: dict[str, str] = {}
        try:
            for found in runner.each(partial(described, self.descriptor), unknown()):
                unread |= self._keep(dict(zip(sent.popleft(), found, strict=True)))
        finally:
            self._save()
        failures |= {position: unread[content] for position, content in order.items() if content in unread}
        contents = [content for position, content in order.items() if position not in failures]
        gathered = np.empty((len(contents), self.descriptor.identity.dimension), dtype=np.float32)
        for row, content in enumerate(contents):
            gathered[row] = self._known[content][0]
        self.upsampled = sum(self._known[content][1] for content in contents)
        return gathered, dict(sorted(failures.items()))

    def _keep(self, found: Mapping[str, Kept | str]) -> dict[str, str]:
        """Keep the vectors among what was found; why there is none, for the rest."""
        self._new |= {content: each for content, each in found.items() if not isinstance(each, str)}
        if len(self._new) >= VECTORS or len(self._new) * self._dtype.itemsize > BYTES:
            self._save()
        return {content: each for content, each in found.items() if isinstance(each, str)}

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


def described(descriptor: Descriptor, pictures: Sequence[Pictured]) -> list[Kept | str]:
    """The vector of each picture, and whether it is smaller than what the network sees; or why it cannot be read."""
    from mnemoscope.pictures import Unreadable

    found: list[Kept | str] = []
    waiting: dict[int, Image.Image] = {}

    def compute() -> None:
        for (place, image), vector in zip(waiting.items(), descriptor(list(waiting.values())), strict=True):
            found[place] = vector, descriptor.upsampled([image]) > 0
        waiting.clear()

    for place, picture in enumerate(pictures):
        try:
            waiting[place] = picture.image()
            found.append("")
        except Unreadable as e:
            found.append(str(e))
        if sum(image.width * image.height for image in waiting.values()) > MEGAPIXELS * 1e6:
            compute()
    compute()
    return found
