"""Which vectors are linked as near-duplicates: all pairs compared, block by block, and joined in one of two ways."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

BLOCK = 4096  # vectors compared with as many others at a time
Linkage = Literal["single", "star"]
Arrays = Sequence[Float[np.ndarray, "_ D"]]
Linked = tuple[Int[np.ndarray, " N"], int]  # for each vector the first one of its group, and how many pairs link


def single_links(arrays: Arrays, threshold: float, advance: Callable[[int], None]) -> Linked:
    """Groups that every pair at or above a similarity unites."""
    group = np.arange(sum(map(len, arrays)))
    pairs = 0
    for first, block in blocks(arrays):
        for other, vectors in blocks(arrays, up_to=first):
            near = block @ vectors.T >= np.float32(threshold)
            if other == first:
                near = np.tril(near, -1)
            one, two = np.nonzero(near)
            pairs += len(one)
            join(group, first + one, other + two)
        advance(len(block))
    return _roots(group, group), pairs


def star_links(arrays: Arrays, threshold: float, advance: Callable[[int], None]) -> Linked:
    """Groups of a first vector and those behind it that are alike to it and were in no group before.

    Only vectors that began a group are compared with later ones.
    """
    group = np.arange(sum(map(len, arrays)))
    for first, block in blocks(arrays):
        free = np.ones(len(block), bool)
        for other, vectors in blocks(arrays, up_to=first - 1):
            begun = np.flatnonzero(group[other : other + len(vectors)] == np.arange(other, other + len(vectors)))
            near = block[free] @ vectors[begun].T >= np.float32(threshold)
            alike = near.any(axis=1)
            if alike.any():
                places = np.flatnonzero(free)[alike]
                group[first + places] = other + begun[near[alike].argmax(axis=1)]
                free[places] = False
        _within(group, first, free, block @ block.T >= np.float32(threshold))
        advance(len(block))
    return group, int((group != np.arange(len(group))).sum())


def _within(
    group: Int[np.ndarray, " N"], first: int, free: Bool[np.ndarray, " B"], near: Bool[np.ndarray, "B B"]
) -> None:
    """Give the vectors of a block that are in no group yet to the first of them that is alike, in place."""
    for place in np.flatnonzero(free):
        if free[place]:
            later = place + 1 + np.flatnonzero(near[place, place + 1 :] & free[place + 1 :])
            group[first + later] = first + place
            free[later] = False


LINKAGES: Mapping[Linkage, Callable[[Arrays, float, Callable[[int], None]], Linked]] = {
    "single": single_links,
    "star": star_links,
}


def join(group: Int[np.ndarray, " N"], one: Int[np.ndarray, " P"], two: Int[np.ndarray, " P"]) -> None:
    """Unite the groups of each pair, in place: every vector points towards the lowest of its group."""
    while len(one):
        a, b = _roots(group, one), _roots(group, two)
        apart = a != b
        one, two, a, b = one[apart], two[apart], a[apart], b[apart]
        np.minimum.at(group, np.maximum(a, b), np.minimum(a, b))


def _roots(group: Int[np.ndarray, " N"], places: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    roots = group[places]
    while (roots != group[roots]).any():
        roots = group[roots]
    return roots


def blocks(
    arrays: Sequence[Float[np.ndarray, "_ D"]], up_to: int | None = None
) -> Iterator[tuple[int, Float[np.ndarray, "B D"]]]:
    """Vectors in float32 with the place of the first of them; those of blocks that begin at or before `up_to`."""
    first = 0
    for vectors in arrays:
        for start in range(0, len(vectors), BLOCK):
            if up_to is not None and first + start > up_to:
                return
            yield first + start, np.asarray(vectors[start : start + BLOCK], np.float32)
        first += len(vectors)


def vectors_at(arrays: Arrays, places: Int[np.ndarray, " P"]) -> Float[np.ndarray, "P D"]:
    """The vectors at some places, in float32."""
    ends = np.cumsum([len(array) for array in arrays])
    which = np.searchsorted(ends, places, side="right")
    picked = np.empty((len(places), arrays[0].shape[1] if arrays else 0), np.float32)
    for number in np.unique(which):
        here = which == number
        picked[here] = arrays[number][places[here] - (ends[number] - len(arrays[number]))]
    return picked
