"""How sure ratios of trained models are: seeds drawn anew, and each ratio from what its samples leave plausible."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from mnemoscope.stats import middle, resampler

Measured = tuple[int, int, float, int]  # size, seed, ratio, samples


def resampled(
    measured: Sequence[Measured], seeds: Sequence[int], resamples: int, *, seed: int = 0, noise: int = 0
) -> Iterator[tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]]:
    """Of each resample the ratio and the weight of every measurement: its samples, times how often its seed was drawn.

    A size of which no drawn seed was measured keeps all that it has. A ratio is drawn from Jeffreys' posterior, which
    has a width also where all or none of the samples are memorized; `noise` numbers what is drawn independently. The
    seeds of a resample depend on nothing but `seeds` and `seed`, so that what is compared has the same ones. Raises
    UsageError for no resamples.
    """
    chosen, drawn = resampler(resamples, [seed, 0]), resampler(resamples, [seed, 1 + noise])
    sizes, of_seed, ratios, samples = (np.array(column) for column in zip(*measured, strict=True))
    memorized = np.rint(ratios * samples)
    places = np.array([list(seeds).index(each) for each in of_seed.tolist()])
    same = sizes[:, None] == sizes[None, :]
    for _ in range(resamples):
        times = chosen.multinomial(len(seeds), [1 / len(seeds)] * len(seeds))[places].astype(float)
        times = np.where(same @ times > 0, times, 1.0)
        yield drawn.beta(memorized + 0.5, samples - memorized + 0.5), times * samples


def span(drawn: Float[np.ndarray, " R"], value: float) -> tuple[float, float]:
    """The middle 95 % of resamples, infinite ones among them, widened to hold the value itself."""
    low, high = middle(drawn, outward=True)
    return min(low, value), max(high, value)
