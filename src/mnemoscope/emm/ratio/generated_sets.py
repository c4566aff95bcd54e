"""What is scored: one set of generated images, or one for each snapshot of a training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.errors import UsageError
from mnemoscope.pictures.trees import Folder, natural

FILES = (".zip", ".npz", ".npy")


@runtime_checkable
class GeneratedSet(Protocol):
    """Generated images of one name, which may be drawn when they are asked for."""

    @property
    def name(self) -> str: ...

    @property
    def evaluations(self) -> int:
        """How often a network was asked for images so far, once for each image; 0 where there is none."""

    def __len__(self) -> int: ...

    def take(self, places: Sequence[int]) -> Images:
        """The images at these places; always the same ones."""

    def again(self) -> "GeneratedSet | None":
        """As many other images of the same snapshot; None where there are no others."""


@dataclass(frozen=True)
class Held:
    """Generated images of a source, read once for as long as no other set is asked for."""

    name: str
    source: str
    resolution: int | None = None
    limit: int | None = None
    evaluations: int = 0

    def __len__(self) -> int:
        return len(self._images)

    def take(self, places: Sequence[int]) -> Images:
        return self._images.take(places)

    def again(self) -> None:
        return None

    @property
    def _images(self) -> Images:
        return _read(self.source, self.resolution, self.limit)


@lru_cache(maxsize=1)
def _read(source: str, resolution: int | None, limit: int | None) -> Images:
    return read_images(source, resolution=resolution, limit=limit)


def held_sets(
    source: str, *, snapshots: bool = False, resolution: int | None = None, limit: int | None = None
) -> list[GeneratedSet]:
    """The images of a source as one set; with `snapshots` each folder, .zip, .npz and .npy file in it as a set.

    Snapshots are in the natural order of their names. Raises `UsageError` for a folder without any.
    """
    if not snapshots:
        return [Held(Path(source).name or source, source, resolution, limit)]
    if not Path(source).is_dir():
        raise UsageError(f"{source} is no folder; give one that holds a folder, a .zip or an .npz for each snapshot.")
    inner = [p for p in Path(source).iterdir() if not p.name.startswith(".") and (p.is_dir() or p.suffix in FILES)]
    if not inner:
        raise UsageError(f"{source} holds no snapshot; put a folder, a .zip or an .npz for each one into it.")
    ordered = sorted(inner, key=lambda p: natural(p.name))
    return [Held(p.name, str(p), resolution, limit) for p in ordered]


def content(source: str) -> str:
    """What a source is recognised by: the names and sizes of its files; its name where it is not on this machine."""
    path = Path(source)
    if path.is_file():
        return f"{path.stat().st_size} bytes"
    if not path.is_dir():
        return source
    sizes = "\n".join(f"{name} {size}" for name, size in sorted(Folder(path).sizes().items()))
    return hashlib.sha256(sizes.encode("utf-8", "surrogatepass")).hexdigest()
