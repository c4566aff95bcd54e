"""How levels of a factor differ, paired by seed: in their ratio at a size, and in their EMM."""

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
from jaxtyping import Float

from mnemoscope.emm.sweeps.estimate import RatioPoint, crossings, emm
from mnemoscope.emm.sweeps.resampling import resampled, span

Found = tuple[float, tuple[float, float]]  # a value and its 95 % interval


def mean_ratio(points: Sequence[RatioPoint], *, resamples: int) -> Found:
    """The mean ratio of a level at one size over seeds."""
    value = float(np.mean([p.ratio for p in points]))
    return value, span(_means(points, resamples, 0), value)


def difference(one: Sequence[RatioPoint], other: Sequence[RatioPoint], *, resamples: int) -> Found | None:
    """Mean difference of the ratios of two levels at one size, over the seeds that both have; None without one.

    The seeds drawn anew are the same for both; what the samples leave plausible is drawn independently, which makes the
    interval too wide rather than too narrow, as both levels start their samples from the same noise.
    """
    sides = _paired(one, other)
    if sides is None:
        return None
    value = float(np.mean([p.ratio for p in sides[0]]) - np.mean([p.ratio for p in sides[1]]))
    drawn = [_means(side, resamples, noise) for noise, side in enumerate(sides)]
    return value, span(drawn[0] - drawn[1], value)


def times(one: Sequence[RatioPoint], other: Sequence[RatioPoint], *, eps: int | float, resamples: int) -> Found | None:
    """How many times the EMM of another level a level has, over the seeds that both have.

    None without such a seed, or without two sizes that both were tried between. EMM below or above these sizes counts
    as the smallest or largest of them: which of two levels has more is told rightly, how much more may be told too low.
    """
    sides = _paired(one, other)
    if sides is None:
        return None
    least = max(min(p.n for p in side) for side in sides)
    most = min(max(p.n for p in side) for side in sides)
    if least >= most:
        return None
    seeds = sorted({p.seed for p in sides[0]})
    values, drawn = [], []
    for noise, side in enumerate(sides):
        whole = emm(side, eps=eps, resamples=1)
        outside = most if whole.flag == "above grid" else least
        values.append(np.clip(whole.value or outside, least, most))
        sizes = crossings(side, eps, seeds=seeds, resamples=resamples, noise=noise)
        drawn.append(np.log(np.clip(sizes, least, most)))
    value = float(values[0] / values[1])
    low, high = np.exp(span(drawn[0] - drawn[1], float(np.log(value)))).tolist()
    return value, (low, high)


def _paired(one: Sequence[RatioPoint], other: Sequence[RatioPoint]) -> list[list[RatioPoint]] | None:
    seeds = {p.seed for p in one} & {p.seed for p in other}
    return [[p for p in side if p.seed in seeds] for side in (one, other)] if seeds else None


def _means(points: Sequence[RatioPoint], resamples: int, noise: int) -> Float[np.ndarray, " R"]:
    """The mean ratio of each resample of one size."""
    measured = [(p.n, p.seed, p.ratio, p.samples) for p in sorted(points, key=attrgetter("seed"))]
    drawn = resampled(measured, sorted({p.seed for p in points}), resamples, noise=noise)
    return np.array([float(ratios @ weights / weights.sum()) for ratios, weights in drawn])
