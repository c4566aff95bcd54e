"""Whether images that are copied more are simpler ones: correlations, and how sure they are when matches repeat."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import draws, spread

ROUNDING = 1e-12

Values = Float[np.ndarray, " N"]


def correlation(
    similarity: Values,
    quantity: Float[np.ndarray, " Q"],
    matches: Sequence[Hashable],
    *,
    permutations: int = 1000,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Pearson's and Spearman's correlation of the similarity of images with a quantity of the references they match.

    In [-1, 1]. `matches` names the reference of each image; the quantity is the reference's, so images that match the
    same one are no independent samples. Hence `_p` permutes the quantity among references, not images: the share of
    permutations, the given order among them, whose correlation is at least as strong, in (0, 1]. `_interval` is 95 %,
    references drawn anew with all their images. None, with a note, for fewer than three references or where a side is
    constant. Raises UsageError for numbers of values that differ, values that are not finite, a reference with two
    quantities, or no permutations or resamples.
    """
    similarity, quantity = similarity.astype(np.float64), quantity.astype(np.float64)
    codes, own = _of_references(similarity, quantity, matches)
    found: dict[str, Any] = {"images": len(similarity), "references": len(own)}
    if len(own) < 3 or np.ptp(own) == 0 or np.ptp(similarity) == 0:
        why = "A correlation needs three matched references and two sides that vary."
        names = [f"{name}{end}" for name in ("pearson", "spearman") for end in ("", "_p", "_interval")]
        return found | dict.fromkeys(names) | {"notes": [why]}
    if permutations < 1:
        raise UsageError(f"{permutations} permutations were asked for; ask for at least 1.")
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(len(own)), (permutations, 1)), axis=1)
    for name, scaled in (("pearson", np.asarray), ("spearman", ranks)):
        fixed = scaled(similarity)
        value = pearson(fixed, scaled(quantity))
        permuted = np.array([pearson(fixed, scaled(own[order][codes])) for order in orders])
        as_strong = int((np.abs(permuted) >= abs(value) - ROUNDING).sum())
        rows = (row.astype(int) for block in draws(codes, resamples=resamples, seed=seed) for row in block)
        drawn = [pearson(*(scaled(np.repeat(side, row)) for side in (similarity, quantity))) for row in rows]
        found |= {name: value, f"{name}_p": (1 + as_strong) / (1 + permutations)}
        found[f"{name}_interval"] = spread(np.array(drawn))
    return found | {"notes": []}


def pearson(a: Values, b: Values) -> float:
    """Pearson's product-moment correlation, in [-1, 1]; NaN if a side is constant."""
    x, y = a - a.mean(), b - b.mean()
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.clip(x @ y / lengths, -1, 1)) if lengths > 0 else float("nan")


def spearman(a: Values, b: Values) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values having the mean of theirs."""
    return pearson(ranks(a), ranks(b))


def ranks(values: Values) -> Values:
    """Rank of each value from 1 on; equal values have the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]


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
    named: dict[Hashable, int] = {}
    codes = np.array([named.setdefault(match, len(named)) for match in matches], dtype=np.int64)
    own = np.empty(len(named))
    own[codes] = quantity
    if (own[codes] != quantity).any():
        raise UsageError("A matched reference was given with two different quantities; give each its own.")
    return codes, own
