"""How much of a set of generated images is copied: the memorization ratio, exact, on 8-bit images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mnemoscope.errors import UsageError
from mnemoscope.search.nearest_pixels import first_equal, nearest
from mnemoscope.stats import wilson_interval

THRESHOLDS = tuple(k / 10 for k in range(1, 10))
POOL = 1000  # images of which the usual distance between neighbours is taken


class MemorizationFigures(TypedDict):
    """What the scores of images amount to, with 95 % intervals; `apart` is with copies merged."""

    memorization_ratio: float
    memorization_ratio_interval: list[float]
    memorization_ratio_apart: float
    memorization_ratio_apart_interval: list[float]
    mean_distance: float
    smallest_quotient: float
    median_quotient: float
    coverage: float
    memorized_references: int
    curve: list[dict[str, float]]


@dataclass(frozen=True)
class Memorization:
    """Distances of generated images to their two nearest training images, and what follows from them.

    Distances are root mean squares over all values of an image, in grey levels, 0 to 255. `second` is the distance to
    the second nearest training image, `second_apart` to the nearest that is no exact copy of the nearest; `match` and
    `other` are the indices of the first and of that one. `quotient` is nearest over second, 1 if both are 0. An image
    is memorized if its `nearest` is below `threshold` times its second: strictly, so that of two equal training images
    neither is a match, which hides copies (`ratio`); with copies merged they count (`ratio_apart`).
    """

    nearest: Float[np.ndarray, " N"]
    second: Float[np.ndarray, " N"]
    second_apart: Float[np.ndarray, " N"]
    match: Int[np.ndarray, " N"]
    other: Int[np.ndarray, " N"]
    quotient: Float[np.ndarray, " N"]
    quotient_apart: Float[np.ndarray, " N"]
    references: int
    distinct: int
    threshold: float = 1 / 3

    def __len__(self) -> int:
        return len(self.match)

    @property
    def memorized(self) -> Bool[np.ndarray, " N"]:
        return self.quotient < self.threshold

    @property
    def memorized_apart(self) -> Bool[np.ndarray, " N"]:
        return self.quotient_apart < self.threshold

    @property
    def ratio(self) -> float:
        """Share of the images that are memorized, in [0, 1]."""
        return float(self.memorized.mean())

    @property
    def ratio_apart(self) -> float:
        """The same with equal training images merged."""
        return float(self.memorized_apart.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of Wilson of the ratio, over images drawn independently."""
        return wilson_interval(int(self.memorized.sum()), len(self))

    @property
    def interval_apart(self) -> tuple[float, float]:
        return wilson_interval(int(self.memorized_apart.sum()), len(self))

    @property
    def mean_distance(self) -> float:
        """Mean distance to the nearest training image, in grey levels."""
        return float(self.nearest.mean())

    @property
    def hits(self) -> dict[int, int]:
        """How many memorized images each training image has, copies merged, by its index, most first."""
        places, counts = np.unique(self.match[self.memorized_apart], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return dict(zip(places[order].tolist(), counts[order].tolist(), strict=True))

    @property
    def coverage(self) -> float:
        """Share of the distinct training images of which at least one image is a memorized copy."""
        return len(self.hits) / self.distinct

    def curve(self, thresholds: Sequence[float] = THRESHOLDS) -> list[dict[str, float]]:
        """The ratio as a function of the threshold, copies as they are and merged."""
        kinds = {"ratio": self.quotient, "ratio_apart": self.quotient_apart}
        return [{"threshold": t, **{k: float((v < t).mean()) for k, v in kinds.items()}} for t in thresholds]

    def near(self, unit: float, threshold: float | None = None) -> Bool[np.ndarray, " N"]:
        """Which images are closer to a training image than `threshold` times `unit`, whatever the second nearest."""
        return self.nearest < (self.threshold if threshold is None else threshold) * unit

    def summary(self) -> MemorizationFigures:
        """All numbers, ready for JSON."""
        return {
            "memorization_ratio": self.ratio,
            "memorization_ratio_interval": list(self.interval),
            "memorization_ratio_apart": self.ratio_apart,
            "memorization_ratio_apart_interval": list(self.interval_apart),
            "mean_distance": self.mean_distance,
            "smallest_quotient": float(self.quotient_apart.min()),
            "median_quotient": float(np.median(self.quotient_apart)),
            "coverage": self.coverage,
            "memorized_references": len(self.hits),
            "curve": self.curve(),
        }


class TrainingPixels:
    """Training images to compare with, as rows of bytes; exact copies among them are looked for once."""

    def __init__(self, train: UInt8[np.ndarray, "M D"], threshold: int | float = 1 / 3) -> None:
        first = first_equal(train)
        self.places, self.counts = np.unique(first, return_counts=True)
        check_references(len(self.places), threshold)
        self.rows = train[self.places] if len(self.places) < len(train) else train
        self.references, self.threshold = len(train), float(threshold)

    def __call__(self, samples: UInt8[np.ndarray, "N D"]) -> Memorization:
        """The generated images against them, exact: distances are square roots of whole numbers."""
        if not len(samples):
            raise UsageError("There are no generated images; give at least one.")
        apart, match = nearest(samples, self.rows, 2)
        squares = np.rint(apart**2)
        seconds = np.where(self.counts[match[:, 0]] > 1, squares[:, 0], squares[:, 1])
        scale = np.sqrt(max(1, samples.shape[1]))
        return Memorization(
            np.sqrt(squares[:, 0]) / scale,
            np.sqrt(seconds) / scale,
            np.sqrt(squares[:, 1]) / scale,
            self.places[match[:, 0]],
            self.places[match[:, 1]],
            _quotient(squares[:, 0], seconds),
            _quotient(squares[:, 0], squares[:, 1]),
            self.references,
            len(self.places),
            self.threshold,
        )


def memorization(
    samples: UInt8[np.ndarray, "N D"], train: UInt8[np.ndarray, "M D"], *, threshold: int | float = 1 / 3
) -> Memorization:
    """The memorization ratio of generated images against the training images, both as rows of bytes; exact.

    An image is memorized if its L2 distance to the nearest training image is less than `threshold` of that to the
    second. It compares only at one number of training images: among more the second is closer. Raises `UsageError` for
    no images, fewer than two different training images, rows of different lengths and a threshold outside (0, 1).
    Yoon et al., ICML 2023 workshop; Gu et al., arXiv:2310.02664.
    """
    return TrainingPixels(train, threshold)(samples)


def usual_distance(pool: UInt8[np.ndarray, "N D"]) -> float:
    """Median distance of an image to its nearest other one, in grey levels: a unit that no training set moves.

    Of the first thousand images that differ. Raises `UsageError` for fewer than two.
    """
    rows = pool[np.unique(first_equal(pool[: 4 * POOL]))[:POOL]]
    if len(rows) < 2:
        raise UsageError("The usual distance needs two images that differ; give a larger pool.")
    apart, _ = nearest(rows, rows, 1, exclude=np.arange(len(rows)))
    return float(np.median(apart) / np.sqrt(rows.shape[1]))


def check_references(distinct: int, threshold: int | float) -> None:
    """Raise `UsageError` for references or a threshold that give no ratio."""
    if not 0 < threshold < 1:
        raise UsageError(f"threshold {threshold:g} was given; give a number between 0 and 1, both excluded.")
    if distinct < 2:
        raise UsageError("The ratio needs two training images that differ; give more references.")


def _quotient(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """First over second distance by their squares, which are whole numbers, so that equal quotients come out equal."""
    return np.sqrt(np.divide(first, second, out=np.ones_like(first), where=second > 0))
