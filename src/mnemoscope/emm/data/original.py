"""The subsets that the tools of the original's program wrote, image by image and label by label."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mnemoscope.emm.data.images import Images
from mnemoscope.errors import UsageError

SEED = 1024  # of all labels that are drawn


@dataclass(frozen=True)
class Wanted:
    """How many images, of how many classes, with how many labels, and which share of another set."""

    n: int
    classes: int | None = None
    label_classes: int | None = None
    mix: Images | None = None
    alpha: int | float = 0


Tool = Callable[[Images, Wanted], Images]


def first_images(images: Images, wanted: Wanted) -> Images:
    """`dataset_tool`: the first n images in the order of the source."""
    return images.take(range(_at_most(wanted.n, images)))


def equal_classes(images: Images, wanted: Wanted) -> Images:
    """`dataset_size`: the first images of each class, as many of each, class after class; n is a multiple of them."""
    if wanted.n % _classes(images):
        count = images.num_classes
        raise UsageError(f"As many of each of {count} classes are taken; give a multiple of {count}, not {wanted.n}.")
    return _by_class(images, [wanted.n // images.num_classes] * images.num_classes)


def first_classes(images: Images, wanted: Wanted) -> Images:
    """`dataset_diversity`: n images of the first C classes, as many of each, what is left over from the last one."""
    count = wanted.classes or _classes(images)
    if not 1 <= count <= _classes(images):
        raise UsageError(f"{count} classes were asked for, and there are {images.num_classes}; ask for fewer.")
    each = wanted.n // count
    places = _by_class(images, [each] * (count - 1) + [wanted.n - (count - 1) * each])
    return Images(places.pixels, places.labels, places.names, count)


def random_labels(images: Images, wanted: Wanted) -> Images:
    """`dataset_random`: as `dataset_size`, with labels drawn independently below C by Python's generator of seed 1024.

    There are as many classes as the highest label says: C is not reached where it was not drawn.
    """
    chosen, count = equal_classes(images, wanted), wanted.label_classes or 10
    generator = random.Random(SEED)
    labels = np.array([generator.randint(0, count - 1) for _ in range(len(chosen))], np.int64)
    return Images(chosen.pixels, labels, chosen.names, int(labels.max()) + 1)


def unique_labels(images: Images, wanted: Wanted) -> Images:
    """`dataset_unique`: as `dataset_size`, each image with its own place as label."""
    chosen = equal_classes(images, wanted)
    return Images(chosen.pixels, np.arange(len(chosen)), chosen.names, len(chosen))


def mixture(images: Images, wanted: Wanted) -> Images:
    """`intra_diversity`: int(n (1 - alpha)) first images of the source, then those of the mix, without labels.

    The product is cut as floats have it: alpha 0.8 of 1000 gives 199 and 801.
    """
    if wanted.mix is None:
        raise UsageError("intra_diversity mixes two sources; give the second one as --mix.")
    count = int(wanted.n * (1 - wanted.alpha))
    first = images.take(range(_at_most(count, images)))
    second = wanted.mix.take(range(_at_most(wanted.n - count, wanted.mix)))
    if first.pixels.shape[1:] != second.pixels.shape[1:]:
        raise UsageError("The two sources have images of other sizes; give a --resolution for both.")
    names = (*(f"first/{name}" for name in first.names), *(f"second/{name}" for name in second.names))
    return Images(np.concatenate([first.pixels, second.pixels]), None, names)


TOOLS: dict[str, Tool] = {
    "dataset_tool": first_images,
    "dataset_size": equal_classes,
    "dataset_diversity": first_classes,
    "dataset_random": random_labels,
    "dataset_unique": unique_labels,
    "intra_diversity": mixture,
}


def _by_class(images: Images, counts: list[int]) -> Images:
    labels = _labels(images)
    places = [np.flatnonzero(labels == number)[:count] for number, count in enumerate(counts)]
    if short := [number for number, of_class in enumerate(places) if len(of_class) < counts[number]]:
        raise UsageError(f"Class {short[0]} has {len(places[short[0]])} images, not {counts[short[0]]}; ask for fewer.")
    return images.take(np.concatenate(places))


def _labels(images: Images) -> Int[np.ndarray, " N"]:
    if images.labels is None:
        raise UsageError("This tool chooses images by their class, and these have none; give images with classes.")
    return images.labels


def _classes(images: Images) -> int:
    _labels(images)
    return images.num_classes


def _at_most(count: int, images: Images) -> int:
    if count > len(images):
        raise UsageError(f"{count} images were asked for and there are {len(images)}; ask for fewer, or give more.")
    return count
