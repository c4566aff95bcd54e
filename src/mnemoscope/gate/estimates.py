"""How sure a share or a mean of samples is when samples of one prompt are alike, and how many more would decide."""

import math
from dataclasses import dataclass

import numpy as np

from mnemoscope.measuring.bootstrap import Percentile, Statistic, estimates, mean
from mnemoscope.stats import FEWEST, wilson_interval

FURTHEST = 10**9
STATISTICS: dict[str, Statistic] = {"mean": mean, "p95": Percentile(95)}


@dataclass(frozen=True)
class Estimate:
    """A statistic of samples with its interval; `effective` is the number of independent samples they are worth."""

    value: float
    low: float
    high: float
    samples: int
    prompts: int
    effective: float
    statistic: str
    level: float


def estimate(values: "np.ndarray", prompts: "list[str]", statistic: str, level: float) -> Estimate:
    """The statistic of values in their unit: Wilson's interval for a rate, else a bootstrap over prompts."""
    n, clusters = len(values), len(set(prompts))
    if statistic == "rate":
        effective = effective_samples(values, prompts)
        rate = float(values.mean())
        low, high = wilson_interval(rate * effective, effective, level)
        return Estimate(rate, low, high, n, clusters, effective, statistic, level)
    found = estimates({"value": STATISTICS[statistic]}, values, np.array(prompts), level=level)
    low, high = found["value_interval"] if clusters >= FEWEST else (-math.inf, math.inf)
    return Estimate(found["value"], low, high, n, clusters, float(clusters), statistic, level)


def effective_samples(hits: "np.ndarray", prompts: "list[str]") -> float:
    """How many independent samples these hits and misses are worth for their rate; at most all, at least 1.

    From the variance of a rate over clusters (Kish, Survey Sampling, 1965). A rate of 0 or 1 has no variance to tell
    by: there each prompt counts once.
    """
    n, rate = len(hits), float(hits.mean())
    _, codes = np.unique(prompts, return_inverse=True)
    clusters = int(codes.max()) + 1
    if clusters == n:
        return float(n)
    if rate in (0, 1) or clusters == 1:
        return float(clusters)
    apart = np.bincount(codes, weights=hits - rate)
    variance = clusters / (clusters - 1) * float((apart**2).sum()) / n**2
    return float(n) if variance == 0 else min(float(n), max(1.0, rate * (1 - rate) / variance))


def side(low: float, high: float, least: float, most: float) -> str:
    """`pass` if an interval lies within limits, `fail` if it lies outside them, `undecided` if it crosses one."""
    if least <= low and high <= most:
        return "pass"
    return "fail" if high < least or low > most else "undecided"


def further(found: Estimate, least: float, most: float) -> int | None:
    """How many more samples decide it if the statistic stays as it is; None where none do, at the limit itself.

    For a rate the smallest number from which Wilson's interval is decided, whichever whole number of hits is nearest to
    the rate; for a mean or percentile what an interval narrowing as one over the square root of their number needs.
    """
    if found.value in (least, most):
        return None
    if found.statistic != "rate":
        return _further_values(found, least, most)
    total, step = found.samples, 1
    while not _decided(found, total + step, least, most):
        step *= 2
        if step > FURTHEST:
            return None
    low = step // 2
    while step - low > 1:
        middle = (low + step) // 2
        low, step = (low, middle) if _decided(found, total + middle, least, most) else (middle, step)
    return step


def _decided(found: Estimate, total: int, least: float, most: float) -> bool:
    """Whether so many samples decide, with the whole number of hits just below and just above the rate."""
    worth = found.effective / found.samples
    hits = {math.floor(found.value * total + 1e-9), math.ceil(found.value * total - 1e-9)}
    sides = {side(*wilson_interval(k * worth, total * worth, found.level), least, most) for k in hits}
    return len(sides) == 1 and sides != {"undecided"}


def _further_values(found: Estimate, least: float, most: float) -> int:
    if found.prompts < FEWEST:
        return math.ceil((FEWEST - found.prompts) * found.samples / found.prompts)

    def times(limit: float) -> float:
        """How many times as many samples take the interval's end that faces a limit to it."""
        reach = found.high - found.value if limit > found.value else found.value - found.low
        return (reach / (limit - found.value)) ** 2

    if found.value < least or found.value > most:
        needed = times(least if found.value < least else most)
    else:
        needed = max(times(limit) for limit in (least, most) if math.isfinite(limit))
    return max(1, math.ceil((needed - 1) * found.samples))
