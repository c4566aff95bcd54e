"""Descriptors: callables from images to vectors that do not depend on the batch, each with a preset and a hash."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.geometry import Geometry
from mnemoscope.features.identity import Identity

WINDOW = 64  # images at a time: their pixels are in memory together
HOMES = {"sscd": "sscd", "clip": "clip", "dino": "dino", "pixels": "raw_pixels", "network": "network"}

Given = TypeVar("Given")
Made = TypeVar("Made")


class Descriptor(ABC):
    """Images as float32 vectors, the same whatever other images are given with them.

    `identity` says what they may be compared with; `unit` whether they have unit length, so that their inner product is
    a similarity from -1 to 1. `threshold` is the similarity from which an image usually counts as a copy: None where
    nobody has established one.
    """

    unit = True
    asked: tuple[str, str | None, str | None, str] | None = None  # what `descriptor` was given, by which it is pickled

    def __init__(self, identity: Identity, geometry: Geometry, *, threshold: float | None = None) -> None:
        self.identity, self.geometry, self.threshold = identity, geometry, threshold

    def __call__(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """One vector for each image, in order; raises `UsageError` if a network gives numbers that are not finite."""
        if len({id(image) for image in images}) < len(images):
            for image in images:
                image.load()  # two threads must not read one file
        vectors = np.zeros((len(images), self.identity.dimension), dtype=np.float32)
        for start in range(0, len(images), WINDOW):
            vectors[start : start + WINDOW] = self._vectors(images[start : start + WINDOW])
        if not np.isfinite(vectors).all():
            raise UsageError(
                f"The network of {self.identity} gives numbers that are not finite; its weights are broken."
            )
        return vectors

    def __reduce__(self) -> Any:
        return super().__reduce_ex__(2) if self.asked is None else (_made_again, (*self.asked, self.identity))

    def upsampled(self, images: Iterable[Image.Image]) -> int:
        """How many images are smaller than what the network sees: their similarity to sharp originals is too low."""
        return sum(self.geometry.enlarges(*image.size) for image in images)

    @abstractmethod
    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]: ...


def descriptor(
    name: str = "sscd", *, preset: str | None = None, weights: str | Path | None = None, device: str = "auto"
) -> Descriptor:
    """The descriptor of that name: "sscd", "clip", "dino", "pixels" or "network".

    `preset` names its geometry and normalisation (the first one of its page if None), `weights` a file, a folder or a
    hub id; "sscd" has packaged ones, "mixup" and "distilled". Raises `UsageError` for weights that are absent, with the
    remedy, and for names that there are not.
    """
    if name not in HOMES:
        raise UsageError(f"There are no features '{name}'; use {', '.join(HOMES)}.")
    home = import_module(f"mnemoscope.features.{HOMES[name]}")
    made: Descriptor = home.make(preset, weights, device)
    made.asked = name, preset, None if weights is None else str(weights), device.partition(":")[0]
    return made


@lru_cache(maxsize=2)
def _made_again(name: str, preset: str | None, weights: str | None, device: str, identity: Identity) -> Descriptor:
    """The descriptor in a process that it was sent to; raises `UsageError` where it is another one there."""
    made = descriptor(name, preset=preset, weights=weights, device=device)
    if made.identity != identity:
        raise UsageError(f"A worker found {made.identity} in the place of {identity}; let all have the same files.")
    return made


def chosen(name: str, preset: str | None, presets: Sequence[str]) -> str:
    """The preset asked for, the first one of all if None; raises `UsageError` for one that there is not."""
    if preset is not None and preset not in presets:
        raise UsageError(f"The features {name} have no preset '{preset}'; use {', '.join(presets)}.")
    return preset or presets[0]


def unit_length(vectors: Float[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N D"]:
    """The vectors over their lengths; the zero vector stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)


def by_shape(arrays: Sequence[np.ndarray], most: int) -> list[list[int]]:
    """Positions of arrays in batches of one shape, `most` of them at a time."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for position, array in enumerate(arrays):
        shapes.setdefault(array.shape, []).append(position)
    return [same[k : k + most] for same in shapes.values() for k in range(0, len(same), most)]


def side_by_side(work: Callable[[Given], Made], parts: Sequence[Given]) -> list[Made]:
    """Do the same with each part, as many at a time as there are cores for this process."""
    if len(parts) < 2 or cores() < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, parts))


def cores() -> int:
    """Threads to work with: `OMP_NUM_THREADS` where it is set, or else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
