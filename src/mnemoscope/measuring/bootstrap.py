"""How sure a number is: intervals by drawing prompts anew, each with all of its images."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.stats import middle, resampler, wilson_interval

Ascending = Float[np.ndarray, " N"]
Weights = Float[np.ndarray, "R N"]  # how often each value counts in each resample: whole numbers
Statistic = Callable[[Ascending, Weights], Float[np.ndarray, " R"]]
Prompts = Sequence[Hashable] | np.ndarray | None
BLOCK = 1 << 22  # weights in memory at a time


def mean(values: Ascending, weights: Weights) -> Float[np.ndarray, " R"]:
    """Mean of each resample."""
    return weights @ values / weights.sum(axis=1)


def sd(values: Ascending, weights: Weights) -> Float[np.ndarray, " R"]:
    """Population standard deviation of each resample: the squares are divided by the number of values."""
    centred = values - values.mean()  # a variance does not see the shift, its rounding does
    first, second = (weights @ power / weights.sum(axis=1) for power in (centred, centred**2))
    return np.sqrt(np.maximum(second - first**2, 0))


@dataclass(frozen=True)
class Percentile:
    """Percentile of each resample, interpolated linearly between its two nearest values as numpy does, or the lower."""

    of: int | float
    lower: bool = False

    def __call__(self, values: Float[np.ndarray, "..."], weights: Weights) -> Float[np.ndarray, " R"]:
        places, each = np.cumsum(weights, axis=1), np.broadcast_to(values, weights.shape)
        at = self.of / 100 * (places[:, -1] - 1)
        ends = [(places > rank[:, None]).argmax(axis=1, keepdims=True) for rank in (np.floor(at), np.ceil(at))]
        below, above = (np.take_along_axis(each, end, axis=1)[:, 0] for end in ends)
        return below if self.lower else below + (at - np.floor(at)) * (above - below)


@dataclass(frozen=True)
class MedianDeviation:
    """Median absolute deviation from the median of each resample, without the factor 1.4826."""

    lower: bool = False

    def __call__(self, values: Ascending, weights: Weights) -> Float[np.ndarray, " R"]:
        median = Percentile(50, self.lower)
        apart = np.abs(values - median(values, weights)[:, None])
        order = np.argsort(apart, axis=1, kind="stable")
        return median(*(np.take_along_axis(each, order, axis=1) for each in (apart, weights)))


@dataclass(frozen=True)
class Share:
    """Share of each resample that lies strictly above a threshold."""

    above: int | float

    def __call__(self, values: Ascending, weights: Weights) -> Float[np.ndarray, " R"]:
        return weights @ (values > self.above).astype(np.float64) / weights.sum(axis=1)


Estimates = dict[str, Any]  # by name a number, and its interval by `<name>_interval`, None where there is none


def estimates(
    statistics: Mapping[str, Statistic],
    values: Float[np.ndarray, " N"],
    prompts: Prompts = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimates:
    """Each statistic of the values, and as `<name>_interval` the range it covers when prompts are drawn anew.

    All images of a prompt are drawn together; without `prompts` each value is drawn on its own. Percentile bootstrap,
    the same for any order of values and any names of prompts. A share that no draw can change has Wilson's interval for
    as many trials as there are prompts; another statistic of a single prompt has None. Raises UsageError for no value,
    a value that is not finite, a number of prompts other than that of values, no resamples or a level outside (0, 1).
    """
    codes, order = groups(prompts, values), np.argsort(values, kind="stable")
    ascending, codes = values[order].astype(np.float64), codes[order]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in draws(codes, resamples=resamples, seed=seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(ascending, weights))
    result: Estimates = {}
    for name, statistic in statistics.items():
        value = float(statistic(ascending, np.ones((1, values.size)))[0])
        interval = spread(np.concatenate(drawn[name]), level)
        trials = int(codes.max()) + 1
        if isinstance(statistic, Share):
            interval = _share_interval(value, interval, trials, level)
        elif trials == 1:
            interval = None
        result |= {name: value, f"{name}_interval": interval}
    return result


def groups(prompts: Prompts, values: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Number of the prompt of each value, prompts ranked by their values: their names and order change nothing.

    Raises UsageError for no value, a value that is not finite or a number of prompts other than that of values.
    """
    if not values.size:
        raise UsageError("There is no value to draw from; give at least one.")
    if bad := int(np.count_nonzero(~np.isfinite(values))):
        raise UsageError(f"{bad} of {values.size} values are NaN or infinite; give finite values only.")
    if prompts is None:
        return np.argsort(np.argsort(values, kind="stable"), kind="stable")
    if len(prompts) != values.size:
        raise UsageError(f"{len(prompts)} prompts were given for {values.size} values; give one prompt for each value.")
    members: dict[Hashable, list[float]] = {}
    for prompt, value in zip(prompts, values.tolist(), strict=True):
        members.setdefault(prompt, []).append(value)
    number = {prompt: k for k, prompt in enumerate(sorted(members, key=lambda prompt: sorted(members[prompt])))}
    return np.array([number[prompt] for prompt in prompts])


def draws(codes: Int[np.ndarray, " N"], *, resamples: int = 1000, seed: int = 0) -> Iterator[Weights]:
    """Resamples in blocks, as the number of times that each value counts: that of its prompt.

    Raises UsageError for no resamples.
    """
    rng, count = resampler(resamples, seed), int(codes.max()) + 1
    at_once = max(1, BLOCK // max(count, codes.size))
    for first in range(0, resamples, at_once):
        size = min(at_once, resamples - first)
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * count).astype(np.float64)
        yield counts.reshape(size, count)[:, codes]


def spread(drawn: Float[np.ndarray, " R"], level: float = 0.95) -> list[float] | None:
    """The middle of the resamples' statistics, those that are no number left out; None if all are.

    Raises UsageError for a level outside (0, 1).
    """
    known = drawn[~np.isnan(drawn)]
    return list(middle(known, level)) if known.size else None


def _share_interval(value: float, interval: list[float] | None, trials: int, level: float) -> list[float] | None:
    if interval is not None and interval[0] < interval[1]:
        return interval
    low, high = wilson_interval(round(value * trials), trials, level)
    return [min(low, value), max(high, value)]
