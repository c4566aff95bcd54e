"""EMM: the largest training set of which a model still memorizes nearly all, read off ratios at several sizes."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Literal, TypedDict

import numpy as np
from jaxtyping import Float

from mnemoscope.emm.sweeps.resampling import resampled, span
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.stats.isotonic import falling

CURVE = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Flag = Literal["", "below grid", "above grid"]
ROUNDING = 1e-9
BELOW, ABOVE = -math.inf, math.inf  # where a line crosses outside of the sizes that were tried


@dataclass(frozen=True)
class RatioPoint:
    """The memorization ratio of `samples` images from a model trained on `n` images with a seed."""

    n: int
    ratio: int | float
    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.samples < 1 or not 0 <= self.ratio <= 1:
            raise UsageError(
                f"A point of n={self.n}, ratio={self.ratio}, samples={self.samples} was given; give an n and samples "
                "of 1 or more and a ratio from 0 to 1."
            )


@dataclass(frozen=True)
class EmmEstimate:
    """EMM in images; None, with a flag, where the line crosses outside of the sizes tried.

    `bracket` has the sizes around the crossing, None for no size there; `interval` is the 95 % one, an end None where
    it lies outside of the sizes. `fitted` has size, mean ratio, its falling fit, samples and seeds; `curve` has eps,
    EMM and flag.
    """

    value: float | None
    flag: Flag
    bracket: tuple[int | None, int | None]
    interval: tuple[float | None, float | None]
    eps: float
    fitted: tuple["FittedSize", ...]
    curve: tuple["CrossingAt", ...]

    def as_json(self) -> Json:
        """All of it, as a summary holds it."""
        return asdict(self)


class FittedSize(TypedDict):
    """The mean ratio of a size and its falling fit."""

    n: int
    ratio: float
    fit: float
    samples: int
    seeds: int


class CrossingAt(TypedDict):
    """EMM at another eps."""

    eps: float
    emm: float | None
    flag: Flag


def emm(points: Sequence[RatioPoint], *, eps: int | float = 0.1, resamples: int = 1000, seed: int = 0) -> EmmEstimate:
    """Effective model memorization: the largest number of training images with an expected ratio of 1 - eps or more.

    In images, between the smallest and the largest size given. The ratios of each size are averaged over seeds, made to
    fall with size (`falling`, weighted by samples), and the crossing of 1 - eps is interpolated in log size. The
    interval draws seeds anew, the same ones at all sizes, and the ratio of each from what its samples leave plausible.
    To be compared at equal eps, budget and samples only. Raises UsageError for no point, an eps outside (0, 1) or no
    resamples. arXiv:2310.02664, section 2.2.
    """
    if not points:
        raise UsageError("There is no point to estimate EMM from; give at least one.")
    _check_eps(eps)
    sizes, ratios, weights = _means(points)
    fit = falling(ratios, weights)
    at = crossing(sizes, fit, eps)
    low, high = span(crossings(points, eps, resamples=resamples, seed=seed), at)
    about = zip(sizes, ratios, fit, weights, strict=True)
    return EmmEstimate(
        value=at if math.isfinite(at) else None,
        flag=_flag(at),
        bracket=_bracket(sizes, fit, eps),
        interval=(low if math.isfinite(low) else None, high if math.isfinite(high) else None),
        eps=float(eps),
        fitted=tuple(
            {"n": n, "ratio": r, "fit": float(f), "samples": int(w), "seeds": sum(p.n == n for p in points)}
            for n, r, f, w in about
        ),
        curve=tuple(_at(sizes, fit, each) for each in CURVE),
    )


def crossings(
    points: Sequence[RatioPoint],
    eps: int | float,
    *,
    seeds: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    noise: int = 0,
) -> Float[np.ndarray, " R"]:
    """EMM of each resample of the points, minus or plus infinity outside of the grid; `seeds` are those to draw from.

    Two sets of points with the same `seeds` have the same ones in each resample, so that they can be compared; `noise`
    numbers what is drawn independently.
    """
    _check_eps(eps)
    points = sorted(points, key=attrgetter("n", "seed"))  # draws do not depend on the order they were measured in
    drawn_from = sorted({p.seed for p in points}) if seeds is None else list(seeds)
    measured = [(p.n, p.seed, p.ratio, p.samples) for p in points]
    drawn = resampled(measured, drawn_from, resamples, seed=seed, noise=noise)
    sizes_at = []
    for ratios, weights in drawn:
        sizes, means, sums = _means(points, ratios, weights)
        sizes_at.append(crossing(sizes, falling(means, sums), eps))
    return np.array(sizes_at)


def crossing(sizes: Sequence[int], fit: Float[np.ndarray, " N"], eps: int | float) -> float:
    """Where falling ratios cross 1 - eps, in images, linear in log size; infinite outside of the sizes."""
    over = _over(fit, eps)
    if over in (0, len(sizes)):
        return ABOVE if over else BELOW
    one, other = fit[over - 1], fit[over]
    share = max(0.0, float((one - (1 - eps)) / (one - other)))
    return float(sizes[over - 1] * (sizes[over] / sizes[over - 1]) ** share)


def _means(
    points: Sequence[RatioPoint],
    ratios: Float[np.ndarray, " P"] | None = None,
    weights: Float[np.ndarray, " P"] | None = None,
) -> tuple[list[int], list[float], list[float]]:
    """Sizes in ascending order, with the mean ratio and the sum of weights of each."""
    values = np.array([p.ratio for p in points], float) if ratios is None else ratios
    counts = np.array([p.samples for p in points], float) if weights is None else weights
    at = np.array([p.n for p in points])
    sizes = sorted(set(at.tolist()))
    sums = [float(counts[at == n].sum()) for n in sizes]
    means = [float(values[at == n] @ counts[at == n]) / total for n, total in zip(sizes, sums, strict=True)]
    return sizes, means, sums


def _at(sizes: Sequence[int], fit: Float[np.ndarray, " N"], eps: float) -> "CrossingAt":
    size = crossing(sizes, fit, eps)
    return {"eps": eps, "emm": size if math.isfinite(size) else None, "flag": _flag(size)}


def _flag(size: float) -> Flag:
    if math.isfinite(size):
        return ""
    return "above grid" if size > 0 else "below grid"


def _bracket(sizes: Sequence[int], fit: Float[np.ndarray, " N"], eps: int | float) -> tuple[int | None, int | None]:
    over = _over(fit, eps)
    return sizes[over - 1] if over else None, sizes[over] if over < len(sizes) else None


def _over(fit: Float[np.ndarray, " N"], eps: int | float) -> int:
    """How many of the falling ratios reach 1 - eps, up to the rounding of a mean."""
    return int(np.sum(fit >= 1 - eps - ROUNDING))


def _check_eps(eps: int | float) -> None:
    if not 0 < eps < 1:
        raise UsageError(f"eps {eps} was given; give a number between 0 and 1, both excluded.")
