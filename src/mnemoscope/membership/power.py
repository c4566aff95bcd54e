"""How many pictures a test needs, and what one of so many would have found."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float

from mnemoscope.stats import wilson_interval

POWER = 0.8  # chance of finding what is there that a number of pictures is asked for


class PowerAt(TypedDict):
    """How often a test of so many pictures of each set found it."""

    pictures: int
    share: float
    interval: list[float]
    draws: int


def needed(auc: float, *, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Pictures of each of two equal sets with which a rank test at `alpha` finds an AUC with a chance of `power`.

    None for an AUC of 0.5 or less, of which no number is enough. One-sided; Noether, JASA 82 (1987), equation 2.
    """
    if auc <= 0.5:
        return None
    return max(2, math.ceil(_reach(alpha, power) ** 2 / (6 * (auc - 0.5) ** 2)))


def detectable(pictures: int, held_out: int, *, alpha: float = 0.05, power: float = POWER) -> float:
    """The AUC that a rank test of these two sets finds with a chance of `power`; at most 1. Noether, as in `needed`."""
    total = pictures + held_out
    share = pictures / total
    return min(1.0, 0.5 + _reach(alpha, power) / math.sqrt(12 * total * share * (1 - share)))


def _reach(alpha: float, power: float) -> float:
    return NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)


def found_by(
    test: Callable[[np.ndarray, np.ndarray, int], float],
    features: Float[np.ndarray, "N F"],
    member: Bool[np.ndarray, " N"],
    sizes: list[int],
    *,
    alpha: float = 0.05,
    draws: int = 50,
    seed: int = 0,
) -> list[PowerAt]:
    """How often a test finds the set with so many pictures of each, drawn from both without putting back.

    `test` gives the p of features, of which are members, and a seed. Draws share pictures, the more of them the larger
    they are, so that their Wilson interval is that of the drawing alone.
    """
    rng = np.random.default_rng(seed)
    mine, others = np.flatnonzero(member), np.flatnonzero(~member)
    found: list[PowerAt] = []
    for size in sizes:
        hits = 0
        for draw in range(draws):
            part = np.concatenate([rng.choice(mine, size, replace=False), rng.choice(others, size, replace=False)])
            hits += test(features[part], member[part], draw) <= alpha
        interval = list(wilson_interval(hits, draws))
        found.append({"pictures": size, "share": hits / draws, "interval": interval, "draws": draws})
    return found
