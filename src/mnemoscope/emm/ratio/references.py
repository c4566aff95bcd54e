"""Training images to compare generated ones with: by their pixels, or by the features of a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.memorization import POOL, Memorization, TrainingPixels, check_references, usual_distance
from mnemoscope.errors import UsageError
from mnemoscope.features import Cache, Descriptor
from mnemoscope.measuring.distances import radii
from mnemoscope.measuring.memorization_ratio import copies, nearest_features


@runtime_checkable
class RatioReferences(Protocol):
    """Training images that generated ones are compared with."""

    unit: str
    references: int
    distinct: int

    def __call__(self, samples: Images) -> Memorization:
        """The nearest of them to each image."""

    def usual(self, pool: Images) -> float:
        """Median distance of an image of a pool to its nearest other one."""


class ByPixels:
    """Training images by their pixels, exact; grey ones become RGB where what they are compared with has colours."""

    unit = "grey levels"

    def __init__(self, train: Images, threshold: int | float = 1 / 3) -> None:
        self.train, self.threshold = train, threshold
        pixels = TrainingPixels(train.rows(), threshold)
        self._pixels = {train.pixels.shape[1]: pixels}
        self.references, self.distinct = pixels.references, len(pixels.places)

    def __call__(self, samples: Images) -> Memorization:
        if samples.pixels.shape[2:] != self.train.pixels.shape[2:]:
            (h, w), (i, v) = samples.pixels.shape[2:], self.train.pixels.shape[2:]
            raise UsageError(f"Images of {w}x{h} pixels cannot be compared with {v}x{i}; give a --resolution for both.")
        if samples.pixels.shape[1] == 3 and 3 not in self._pixels:
            self._pixels[3] = TrainingPixels(self.train.in_colour().rows(), self.threshold)
        samples = samples if samples.pixels.shape[1] in self._pixels else samples.in_colour()
        return self._pixels[samples.pixels.shape[1]](samples.rows())

    def usual(self, pool: Images) -> float:
        return usual_distance(pool.rows())


@dataclass(frozen=True)
class KnownImage:
    """One of the images as a descriptor takes it, known by its pixels."""

    images: Images
    place: int

    def sha256(self) -> str:
        return self.images.take([self.place]).unlabelled().sha256()

    def image(self) -> Image.Image:
        return self.images.picture(self.place).convert("RGB")


class ByFeatures:
    """Training images by Euclidean distances of the vectors of a descriptor, which are kept in a folder."""

    unit = "feature distance"

    def __init__(self, train: Images, descriptor: Descriptor, folder: Path, threshold: int | float = 1 / 3) -> None:
        self.cache = Cache(folder, descriptor)
        self.vectors, self.references = self._of(train), len(train)
        self.groups = copies(self.vectors)
        self.threshold, self.distinct = float(threshold), len(np.unique(self.groups))
        check_references(self.distinct, threshold)

    def __call__(self, samples: Images) -> Memorization:
        if not len(samples):
            raise UsageError("There are no generated images; give at least one.")
        vectors = self._of(samples)
        distances, _ = nearest_features(vectors, self.vectors, 2)
        apart, at = nearest_features(vectors, self.vectors, 2, groups=self.groups)
        first, other = self._first(at).T
        return Memorization(
            distances[:, 0],
            distances[:, 1],
            apart[:, 1],
            first,
            other,
            _over(distances),
            _over(apart),
            self.references,
            self.distinct,
            self.threshold,
        )

    def usual(self, pool: Images) -> float:
        vectors = np.unique(self._of(pool.take(slice(POOL))), axis=0)
        if len(vectors) < 2:
            raise UsageError("The usual distance needs two images that differ; give a larger pool.")
        return float(np.median(radii(vectors, 1)))

    def _of(self, images: Images) -> Float[np.ndarray, "N D"]:
        return self.cache.vectors([KnownImage(images, place) for place in range(len(images))])[0]

    def _first(self, places: Int[np.ndarray, "N 2"]) -> Int[np.ndarray, "N 2"]:
        """The first reference of the group of each."""
        groups, first = np.unique(self.groups, return_index=True)
        return first[np.searchsorted(groups, self.groups[places])]


def _over(pair: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, " N"]:
    return np.divide(pair[:, 0], pair[:, 1], out=np.ones(len(pair)), where=pair[:, 1] > 0)
