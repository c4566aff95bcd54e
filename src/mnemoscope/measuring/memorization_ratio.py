"""Whether an image is a copy of one training image: much closer to it than to any other."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Share, estimates
from mnemoscope.measuring.distances import blocks, two_sets
from mnemoscope.search import nearest_pixels
from mnemoscope.stats import wilson_interval

Neighbours = tuple[Float[np.ndarray, "N k"], Int[np.ndarray, "N k"]]
Ratios = dict[str, np.ndarray]


def nearest_features(
    generated: Float[np.ndarray, "N D"],
    reference: Float[np.ndarray, "M E"],
    k: int = 2,
    *,
    groups: Int[np.ndarray, " M"] | None = None,
) -> Neighbours:
    """Euclidean distances and positions of the k nearest references of each vector, nearest first.

    In float64; of equal distances the lower position is first. `groups` numbers the references, duplicates alike, and
    then one of each group is a neighbour, the nearest. Raises UsageError for fewer than k references or groups, another
    dimension, or vectors that are not finite.
    """
    two_sets(generated, reference, least=1)
    of = np.arange(len(reference)) if groups is None else groups
    order = np.argsort(of, kind="stable")
    starts = np.flatnonzero(np.diff(of[order], prepend=-1))
    if not 1 <= k <= len(starts):
        raise UsageError(f"{k} nearest of {len(starts)} references were asked for, duplicates left out; give more.")
    apart, at = np.empty((len(generated), k)), np.empty((len(generated), k), np.int64)
    for rows, found in blocks(generated, reference):
        best = np.minimum.reduceat(found[:, order], starts, axis=1)
        near = np.argsort(best, axis=1, kind="stable")[:, :k]
        apart[rows] = np.take_along_axis(best, near, axis=1)
        for column in range(k):
            is_it = (found == apart[rows, column, None]) & (of == of[order[starts[near[:, column]]]][:, None])
            at[rows, column] = is_it.argmax(axis=1)
    return apart, at


def copies(reference: np.ndarray) -> Int[np.ndarray, " M"]:
    """A number for each reference that it shares with those that are exactly equal to it, bit for bit."""
    named: dict[bytes, int] = {}
    return np.array([named.setdefault(np.ascontiguousarray(row).tobytes(), len(named)) for row in reference])


def memorization_ratio(nearest: Neighbours, apart: Neighbours, *, threshold: int | float = 1 / 3) -> Ratios:
    """Distance of each image to its nearest reference over that to the second nearest, in [0, 1], and which are below
    a threshold.

    `ratio` and `memorized` are those of `nearest`, the references as they are: where the nearest one has a duplicate,
    the ratio is 1 and a copy goes unseen. `ratio_apart` and `memorized_apart` are those of `apart`, the neighbours
    without duplicates. Both hold at least two neighbours, nearest first. Strictly below, and 0 over 0 is 1. Compares
    only at one number of references: among more the second is closer. Raises UsageError for a threshold outside (0, 1)
    or fewer than two neighbours. Yoon et al., ICML 2023 workshop; Gu et al., arXiv:2310.02664.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"threshold {threshold:g} was given; give a number between 0 and 1, both excluded.")
    found: Ratios = {"nearest": nearest[0][:, 0], "match": nearest[1][:, 0]}
    for end, (distance, place) in (("", nearest), ("_apart", apart)):
        if place.shape[1] < 2 or (place[:, :2] < 0).any():
            raise UsageError("A ratio needs two references that are no duplicates of each other; give more references.")
        ratio = _over(distance[:, 0], distance[:, 1])
        found |= {f"ratio{end}": ratio, f"memorized{end}": ratio < threshold}
    return found


def ratios_between(
    generated: np.ndarray, reference: np.ndarray, groups: Int[np.ndarray, " M"], threshold: int | float
) -> Ratios:
    """Ratios of 8-bit pixels, or of feature vectors [N, D] and [M, D]; references of one group are duplicates."""
    if generated.dtype == np.uint8:
        apart = nearest_pixels.nearest(generated, reference, distinct=True)
        return memorization_ratio(nearest_pixels.nearest(generated, reference), apart, threshold=threshold)
    apart = nearest_features(generated, reference, groups=groups)
    return memorization_ratio(nearest_features(generated, reference), apart, threshold=threshold)


def memorized_share(
    ratios: Ratios, prompts: Sequence[Hashable] | None = None, held_out: Ratios | None = None, seed: int = 0
) -> Estimates:
    """Shares of images memorized, with duplicates as they are (`rate`) and merged (`rate_apart`), and 95 % intervals.

    Wilson's where every image is a sample of its own; where several have a prompt, prompts are drawn anew. Images that
    the model never saw give the `floor`, the share that is flagged although nothing can be memorized.
    """
    found: Estimates = {}
    for end in ("", "_apart"):
        found |= _share(f"rate{end}", ratios[f"memorized{end}"], prompts, seed)
        if held_out is not None:
            found |= _share(f"floor{end}", held_out[f"memorized{end}"], None, seed)
    matched = ratios["match"][ratios["memorized_apart"]]
    return found | {"memorized_references": len(set(matched.tolist()))}


def flat(images: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "N D"]:
    """8-bit images as rows of their pixels."""
    return np.ascontiguousarray(images).reshape(len(images), -1)


def _over(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return np.divide(first, second, out=np.ones_like(first), where=second > 0)


def _share(name: str, memorized: Bool[np.ndarray, " N"], prompts: Sequence[Hashable] | None, seed: int) -> Estimates:
    if prompts is None or len(set(prompts)) == len(memorized):
        share, interval = float(memorized.mean()), wilson_interval(int(memorized.sum()), len(memorized))
        return {name: share, f"{name}_interval": list(interval)}
    return estimates({name: Share(0.5)}, memorized.astype(np.float64), prompts, seed=seed)
