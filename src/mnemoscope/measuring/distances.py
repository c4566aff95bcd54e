"""Euclidean distances in float64, by matrix products, and safe where two vectors are nearly the same."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError

Features = Float[np.ndarray, "N D"]
ROWS = 1024  # distances of at most so many vectors to all others at a time
TOGETHER = 1 << 24  # distances in memory
PAIRS = 4096  # taken again by their differences at a time
CANCELS = 1e-4  # of the squared lengths: below it the products lose too many digits
SAME = 1e-8  # relative: distances that differ by less are equal


def distances(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N M"]:
    """Euclidean distance of each row of `a` to each row of `b`, exactly 0 for equal rows, right to 9 digits."""
    centre = b.mean(axis=0, dtype=np.float64)
    a, b = a - centre, b - centre
    lengths = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    squares = lengths - 2 * a @ b.T
    near = np.argwhere(squares < CANCELS * lengths)
    for start in range(0, len(near), PAIRS):
        i, j = near[start : start + PAIRS].T
        squares[i, j] = np.square(a[i] - b[j]).sum(axis=1)
    return np.sqrt(np.maximum(squares, 0))


def blocks(
    a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]
) -> Iterator[tuple[slice, Float[np.ndarray, "B M"]]]:
    """`distances`, some rows of `a` at a time, with which rows these are."""
    count = max(1, min(ROWS, TOGETHER // max(len(b), 1)))
    for start in range(0, len(a), count):
        rows = slice(start, start + count)
        yield rows, distances(a[rows], b)


def radii(features: Features, k: int) -> Float[np.ndarray, " N"]:
    """Distance of each vector to its k-th nearest other one; an exact copy in another row is another one.

    Raises UsageError unless there are more than k vectors.
    """
    if not 1 <= k < len(features):
        raise UsageError(
            f"k = {k} nearest others were asked for among {len(features)} vectors; give more, or a lower k."
        )
    found = np.empty(len(features))
    for rows, apart in blocks(features, features):
        own: Int[np.ndarray, " B"] = np.arange(len(apart))
        apart[own, own + rows.start] = np.inf
        found[rows] = np.partition(apart, k - 1, axis=1)[:, k - 1]
    return found


def two_sets(generated: Float[np.ndarray, "N D"], reference: Float[np.ndarray, "M E"], least: int = 2) -> None:
    """Raise UsageError unless both are sets of enough finite vectors of one dimension."""
    if generated.shape[1] != reference.shape[1]:
        raise UsageError(
            f"Generated vectors have {generated.shape[1]} dimensions and references {reference.shape[1]}; "
            "take both from one network."
        )
    for name, vectors in (("generated", generated), ("reference", reference)):
        if len(vectors) < least:
            raise UsageError(f"{len(vectors)} {name} vectors were given; give at least {least}.")
        if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
            raise UsageError(f"{bad} of {len(vectors)} {name} vectors hold NaN or infinity; give finite ones only.")
