"""A training set of a given size made from a larger one: its classes, its mixture, its labels, its resolution."""

from collections.abc import Sequence
from fractions import Fraction
from typing import get_args

import numpy as np
from jaxtyping import Int

from mnemoscope.emm.data.images import Images, resized
from mnemoscope.emm.data.modes import LabelMode
from mnemoscope.errors import UsageError
from mnemoscope.search.nearest_pixels import first_equal

TRUE = ("true", "permuted")


def make_subset(
    images: Images,
    n: int | None = None,
    *,
    classes: int | Sequence[int] | None = None,
    mix: tuple[Images, int | float | str | Fraction] | None = None,
    label_mode: LabelMode | str = "none",
    label_classes: int | None = None,
    resolution: int | None = None,
    seed: int | None = 0,
    balanced: bool = True,
    dedupe: bool = False,
) -> Images:
    """`n` of the images, with labels of the asked kind; a smaller set is the beginning of a larger one.

    Images with labels are taken in turn from each class, so that classes have the same number or one more, as far as
    they go, unless not `balanced`; `seed` shuffles each class, and None keeps its order. `classes` keeps the first so
    many classes, or those listed, numbered anew in that order. `mix` is a second set and its share of the `n` images,
    exact to the image (0.8 of 1000 is 800). `dedupe` leaves out exact copies first. `label_mode`: `none`; `true`;
    `random`, numbers below `label_classes` in equal shares (`random-iid`: drawn independently, so that classes may be
    empty); `unique`, one for each image; `constant`, 0; `permuted`, the true ones dealt out anew, the only labels that
    depend on `n`. Raises `UsageError` where images, classes or labels are lacking.
    """
    _check(images, n, mix, label_mode, label_classes)
    if classes is not None:
        images = _of_classes(images, classes)
    sets = [images] if mix is None else [images, mix[0]]
    if mix is not None and len({each.pixels.shape[1] for each in sets}) > 1:
        sets = [each.in_colour() for each in sets]
    if dedupe:
        sets = [each if resolution is None else resized(each, resolution) for each in sets]
        sets = [_distinct(each, sets[:place]) for place, each in enumerate(sets)]
    if mix is None:
        chosen = images_in_turn(sets[0], n, seed, balanced, resolution)
    else:
        chosen = _mixed(sets, share(mix[1]), n or 0, seed, balanced, resolution, label_mode in TRUE)
    return labelled(chosen, label_mode, label_classes, seed or 0)


def labelled(images: Images, mode: LabelMode | str, classes: int | None = None, seed: int = 0) -> Images:
    """The images with labels of a kind, as `make_subset` has them; `classes` is for random ones."""
    count = len(images)
    if mode == "none":
        return images.unlabelled()
    if mode in TRUE:
        if images.labels is None:
            raise UsageError(f"The labels asked for are {mode}, and the images have none; give images with classes.")
        if mode == "true":
            return images
        dealt = np.random.default_rng([seed, 1]).permutation(images.labels)
        return Images(images.pixels, dealt, images.names, images.num_classes)
    number = {"unique": count, "constant": 1}.get(mode, classes or images.num_classes)
    if number < 1:
        raise UsageError("Random labels of images without classes need their number; give label_classes.")
    return Images(images.pixels, _numbers(mode, count, number, seed), images.names, number)


def _numbers(mode: str, count: int, classes: int, seed: int) -> Int[np.ndarray, " N"]:
    """Labels that images keep when there are more of them."""
    random = np.random.default_rng([seed, 2])
    if mode == "unique":
        return np.arange(count)
    if mode == "constant":
        return np.zeros(count, np.int64)
    if mode == "random-iid":
        return (random.random(count) * classes).astype(np.int64)
    rounds = [random.permutation(classes) for _ in range(-(-count // classes))]
    return np.concatenate([*rounds, np.empty(0, np.int64)])[:count].astype(np.int64)


def share(given: int | float | str | Fraction) -> Fraction:
    """A share exactly as it is written: 0.8 is four fifths; raises `UsageError` outside 0..1."""
    try:
        exact = Fraction(str(given))
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"The share of a mixture was {given}; give a number from 0 to 1, as 0.2 or 1/5.") from None
    if not 0 <= exact <= 1:
        raise UsageError(f"The share of a mixture was {given}; give a number from 0 to 1.")
    return exact


def images_in_turn(
    images: Images, n: int | None, seed: int | None, balanced: bool = True, resolution: int | None = None
) -> Images:
    """The first `n` images of an order that does not depend on `n`: each class shuffled, then one of each in turn."""
    if n is not None and n > len(images):
        raise UsageError(f"{n} images were asked for and there are {len(images)}; ask for fewer, or give more.")
    classes = images.labels if balanced and images.labels is not None else np.zeros(len(images), np.int64)
    rank = np.empty(len(images), np.int64)
    for number in np.unique(classes):
        places = np.flatnonzero(classes == number)
        rank[places] = range(len(places)) if seed is None else _shuffled(len(places), seed, int(number))
    taken = images.take(np.lexsort((classes, rank))[:n])
    return taken if resolution is None else resized(taken, resolution)


def _shuffled(count: int, seed: int, number: int) -> Int[np.ndarray, " N"]:
    return np.random.default_rng([seed, 0, number]).permutation(count)


def _mixed(
    sets: Sequence[Images],
    part: Fraction,
    n: int,
    seed: int | None,
    balanced: bool,
    resolution: int | None,
    with_labels: bool,
) -> Images:
    """`n` images of two sets, the second one's share rounded to the nearest image, spread evenly over the order."""
    if with_labels and any(each.labels is None for each in sets):
        raise UsageError("True labels were asked for of a mixture of which a set has none; ask for other labels.")
    before = np.array([int(k * part + Fraction(1, 2)) for k in range(n + 1)])
    is_other = np.diff(before) > 0
    other = int(before[-1])
    first = images_in_turn(sets[0], n - other, seed, balanced, resolution)
    second = images_in_turn(sets[1], other, None if seed is None else seed + 1, balanced, resolution)
    if first.pixels.shape[1:] != second.pixels.shape[1:]:
        sizes = ["x".join(map(str, each.pixels.shape[1:])) for each in (first, second)]
        raise UsageError(f"Images of {sizes[0]} and {sizes[1]} cannot be mixed; give a resolution for both.")
    order = np.empty(n, np.int64)
    order[~is_other], order[is_other] = np.arange(n - other), np.arange(n - other, n)
    both = np.concatenate([first.pixels, second.pixels])[order]
    named = [*(f"first/{name}" for name in first.names), *(f"second/{name}" for name in second.names)]
    names = tuple(named[k] for k in order)
    if not with_labels or first.labels is None or second.labels is None:
        return Images(both, None, names)
    mixed = np.concatenate([first.labels, second.labels])[order]
    return Images(both, mixed, names, max(each.num_classes for each in sets))


def _of_classes(images: Images, classes: int | Sequence[int]) -> Images:
    if images.labels is None:
        raise UsageError("Classes were asked for of images without labels; give images with classes.")
    kept = list(range(classes)) if isinstance(classes, int) else list(classes)
    counts = images.counts()
    absent = [c for c in kept if not 0 <= c < len(counts) or not counts[c]]
    if absent or not kept or len(set(kept)) < len(kept):
        raise UsageError(
            f"Classes {kept} were asked for, of 0 to {len(counts) - 1} that have images; give some of these."
        )
    places = np.flatnonzero(np.isin(images.labels, kept))
    renumbered = np.argsort(kept)[np.searchsorted(np.sort(kept), images.labels[places])]
    taken = images.take(places)
    return Images(taken.pixels, renumbered.astype(np.int64), taken.names, len(kept))


def _distinct(images: Images, others: Sequence[Images]) -> Images:
    """The images without exact copies of earlier ones, in their own set or in the others."""
    before = sum(len(each) for each in others)
    first = first_equal(np.concatenate([each.rows() for each in (*others, images)]))
    return images.take(np.flatnonzero(first[before:] == np.arange(before, len(first))))


def _check(images: Images, n: int | None, mix: tuple | None, label_mode: str, label_classes: int | None) -> None:
    if n is not None and n < 1:
        raise UsageError(f"{n} images were asked for; ask for at least 1.")
    if mix is not None and n is None:
        raise UsageError("A mixture needs the number of images; give n.")
    if label_mode not in get_args(LabelMode):
        raise UsageError(f"There are no labels '{label_mode}'; give {', '.join(get_args(LabelMode))}.")
    if label_classes is not None and not (label_mode.startswith("random") and label_classes > 0):
        raise UsageError(
            f"{label_classes} classes were asked for with labels '{label_mode}'; only random ones take a number."
        )
    if not len(images):
        raise UsageError("There are no images to take some of; give a source with images.")
