"""Whether images that are copied more are simpler ones: correlations, and how sure they are when matches repeat."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypedDict, cast

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import BLOCK, draws, spread
from mnemoscope.stats import FEWEST

ROUNDING = 1e-12

Values = Float[np.ndarray, " N"]
Rows = Float[np.ndarray, "#R N"]
Scale = Callable[[Values, Rows], Rows]


class _Sizes(TypedDict):
    images: int
    references: int


class Correlation(_Sizes):
    """Correlations, each with its p and 95 % interval, None where it cannot be told."""

    pearson: float | None
    pearson_p: float | None
    pearson_interval: list[float] | None
    spearman: float | None
    spearman_p: float | None
    spearman_interval: list[float] | None
    notes: list[str]


def correlation(
    similarity: Values,
    quantity: Float[np.ndarray, " Q"],
    matches: Sequence[Hashable],
    *,
    permutations: int = 1000,
    resamples: int = 1000,
    seed: int = 0,
    fewest: int = FEWEST,
) -> Correlation:
    """Pearson's and Spearman's correlation of the similarity of images with a quantity of the references they match.

    In [-1, 1]. `matches` names the reference of each image; the quantity is the reference's, so images that match the
    same one are no independent samples. Hence `_p` permutes the quantity among references, not images: the share of
    permutations, the given order among them, whose correlation is at least as strong, in (0, 1]. `_interval` is 95 %,
    references drawn anew with all their images. `_p` is None, with a note, for fewer than `fewest` references, and all
    are for fewer than three or where a side is constant. Raises UsageError for numbers of values that differ, values
    that are not finite, a reference with two quantities, or no permutations or resamples.
    """
    similarity, quantity = similarity.astype(np.float64), quantity.astype(np.float64)
    codes, groups = _of_references(similarity, quantity, matches)
    about: _Sizes = {"images": len(similarity), "references": len(groups)}
    if len(groups) < 3 or np.ptp(groups) == 0 or np.ptp(similarity) == 0:
        why = "A correlation needs three matched references and two sides that vary."
        nothing = dict.fromkeys(f"{name}{end}" for name in ("pearson", "spearman") for end in ("", "_p", "_interval"))
        return cast(Correlation, {**about, **nothing, "notes": [why]})
    if permutations < 1:
        raise UsageError(f"{permutations} permutations were asked for; ask for at least 1.")
    once = np.ones((1, len(similarity)))

    def told(scaled: Scale) -> tuple[float, float | None, list[float] | None]:
        fixed = scaled(similarity, once)
        value = float(_weighted_pearson(fixed, scaled(quantity, once), once)[0])
        permuted = [
            _weighted_pearson(fixed, each, once) for each in _permuted(groups, codes, permutations, seed, scaled)
        ]
        as_strong = int((np.abs(np.concatenate(permuted)) >= abs(value) - ROUNDING).sum())
        drawn = [
            _weighted_pearson(scaled(similarity, weights), scaled(quantity, weights), weights)
            for weights in draws(codes, resamples=resamples, seed=seed)
        ]
        p = (1 + as_strong) / (1 + permutations)
        return value, p if len(groups) >= fewest else None, spread(np.concatenate(drawn))

    linear, ranked = told(_themselves), told(_weighted_ranks)
    few = f"{len(groups)} matched references are too few for a p; from {fewest} on it is given."
    return {
        **about,
        "pearson": linear[0],
        "pearson_p": linear[1],
        "pearson_interval": linear[2],
        "spearman": ranked[0],
        "spearman_p": ranked[1],
        "spearman_interval": ranked[2],
        "notes": [few] if len(groups) < fewest else [],
    }


def pearson(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> float:
    """Pearson's product-moment correlation, in [-1, 1]; NaN if a side is constant."""
    return float(_weighted_pearson(a[None], b[None], np.ones((1, a.size)))[0])


def spearman(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values having the mean of theirs."""
    once = np.ones((1, a.size))
    return float(_weighted_pearson(_weighted_ranks(a, once), _weighted_ranks(b, once), once)[0])


def _weighted_pearson(a: Rows, b: Rows, weights: Rows) -> Float[np.ndarray, " R"]:
    """Correlation of each row of values that count so many times; NaN where a side is constant but for rounding."""
    total = weights.sum(axis=1, keepdims=True)
    x, y = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in (a, b))
    squares = [(weights * side * side).sum(axis=1) for side in (x, y)]
    least = [ROUNDING**2 * total[:, 0] * np.square(side).max() for side in (a, b)]
    varies = (squares[0] > least[0]) & (squares[1] > least[1])
    lengths = np.sqrt(np.where(varies, squares[0] * squares[1], np.nan))
    return np.clip((weights * x * y).sum(axis=1) / lengths, -1, 1)


def _weighted_ranks(values: Values, weights: Rows) -> Rows:
    """Ranks from 1 on, for each row of how many times each value counts; equal values have the mean of their ranks."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    together = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(together, axis=1) - (together - 1) / 2)[:, place]


def _themselves(values: Values, weights: Rows) -> Rows:
    return values[None]


def _permuted(
    own: Float[np.ndarray, " K"],
    codes: Int[np.ndarray, " N"],
    permutations: int,
    seed: int,
    scaled: Scale,
) -> Iterator[Float[np.ndarray, "R N"]]:
    """The quantity of the images, or its rank, after each permutation of it among references; some at a time."""
    rng, sizes = np.random.default_rng(seed), np.bincount(codes).astype(np.float64)
    together = max(1, BLOCK // len(codes))
    for start in range(0, permutations, together):
        count = min(together, permutations - start)
        orders = rng.permuted(np.tile(np.arange(len(own)), (count, 1)), axis=1)
        values = np.broadcast_to(scaled(own, sizes[np.argsort(orders, axis=1)]), orders.shape)
        yield np.take_along_axis(values, orders, axis=1)[:, codes]


def _of_references(
    similarity: Values, quantity: Float[np.ndarray, " Q"], matches: Sequence[Hashable]
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " R"]]:
    """The number of each image's reference, and the quantity of each reference."""
    if not len(similarity) == len(quantity) == len(matches):
        raise UsageError(
            f"{len(similarity)} similarities came with {len(quantity)} quantities and {len(matches)} matches; "
            "give one of each for every image."
        )
    if not (np.isfinite(similarity).all() and np.isfinite(quantity).all()):
        raise UsageError("A similarity or a quantity is NaN or infinite; give finite numbers only.")
    named = {match: number for number, match in enumerate(sorted(set(matches), key=repr))}  # whatever the order
    codes = np.array([named[match] for match in matches], dtype=np.int64)
    own = np.empty(len(named))
    own[codes] = quantity
    if (own[codes] != quantity).any():
        raise UsageError("A matched reference was given with two different quantities; give each its own.")
    return codes, own
