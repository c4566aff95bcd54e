"""Squared maximum mean discrepancy of features, KID for Inception's (Binkowski et al., arXiv:1801.01401)."""

from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.distances import ROWS, two_sets
from mnemoscope.measuring.feature_sets import feature_sets


@registry.measure(paper="arXiv:1801.01401", needs=("references",))
def kernel_distance(
    comparison: Comparison, *, subsets: int = 100, subset_size: int = 1000, most: int = 10000
) -> Measured:
    """How far generated images and references are apart in the moments of their features, without bias.

    About 0 for equal distributions, and then negative half of the time; not multiplied by 1000. `mean` and `sd` are
    taken over random subsets, as published; `value` is that of all images at once, whose interval leaves out prompts
    and references in turn. Features are those of --network if there is one and of the descriptor if not; `most` images
    of a side at most are drawn at random. Compares only at equal features.
    """
    sets = feature_sets(comparison, most)
    if isinstance(sets, Measured):
        return sets
    drawn = {"subsets": subsets, "subset_size": subset_size, "seed": comparison.seed}
    summary = distance_of_subsets(sets.generated, sets.reference, **drawn)
    notes = [*sets.notes, *summary.pop("notes")]
    groups = comparison.groups[sets.places].tolist()
    return Measured(summary=sets.about | summary | mmd(sets.generated, sets.reference, groups), notes=notes)


Generated = Float[np.ndarray, "N D"]
Reference = Float[np.ndarray, "M E"]


def distance_of_subsets(
    generated: Generated, reference: Reference, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimates:
    """Mean squared MMD of random subsets of two sets of vectors, KID if these are Inception's, and how it varies.

    The kernel is (x y / D + 1)^3 and the estimate unbiased, so that it is 0 on average for equal distributions and may
    be negative; not multiplied by 1000. `sd` is the population standard deviation over subsets, drawn without
    replacement in each, of `subset_size` vectors or as many as the smaller set has: no standard error, and 0 where a
    subset is the whole of both. Raises UsageError for subsets below 1, of fewer than two vectors, another dimension,
    or vectors that are not finite. Binkowski et al., arXiv:1801.01401.
    """
    two_sets(generated, reference)
    size = min(subset_size, len(generated), len(reference))
    if subsets < 1 or size < 2:
        raise UsageError(f"{subsets} subsets of {subset_size} vectors were asked for; ask for at least 1 of 2.")
    rng, sides = np.random.default_rng(seed), [side.astype(np.float64) for side in (generated, reference)]
    whole = size == len(generated) == len(reference)
    distances = []
    for _ in range(1 if whole else subsets):
        x, y = (side[rng.choice(len(side), size, replace=False)] for side in sides)
        distances.append(_unbiased(_apart(x), size, _apart(y), size, kernel(x, y).sum()))
    notes = (
        ["Every subset is the whole of both sets: the standard deviation over subsets says nothing."] if whole else []
    )
    mean, sd = float(np.mean(distances)), float(np.std(distances))
    return {"mean": mean, "sd": sd, "subsets": len(distances), "subset_size": size, "notes": notes}


def mmd(
    generated: Generated, reference: Reference, prompts: Sequence[Hashable] | None = None, *, level: float = 0.95
) -> Estimates:
    """Unbiased squared MMD of all vectors at once, with the interval that prompts and references leave plausible.

    The mean of `distance_of_subsets`, without its choice of subsets. The interval is normal, with the
    variance of a jackknife that leaves out one prompt with all its images, or one reference, at a time: a bootstrap
    would draw vectors twice, and a vector is too similar to itself. None with a single prompt. Raises UsageError as
    `distance_of_subsets` does, and for a number of prompts other than that of vectors or a level outside (0, 1).
    """
    two_sets(generated, reference)
    if prompts is not None and len(prompts) != len(generated):
        raise UsageError(f"{len(prompts)} prompts were given for {len(generated)} vectors; give one prompt for each.")
    if not 0 < level < 1:
        raise UsageError(f"level {level:g} was given; give a number between 0 and 1, both excluded.")
    n, m = len(generated), len(reference)
    x, y = generated.astype(np.float64), reference.astype(np.float64)
    named: dict[Hashable, int] = {}
    codes = np.array([named.setdefault(prompt, len(named)) for prompt in (range(n) if prompts is None else prompts)])
    (xx, x_within), (yy, y_within) = _sums(x, codes), _sums(y, np.arange(m))
    across, down = _cross(x, y)
    value = _unbiased(xx.sum(), n, yy.sum(), m, across.sum())
    sizes, x_sums = np.bincount(codes), np.bincount(codes, across)
    within = np.bincount(codes, xx)
    left = n - sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        without_prompt = _unbiased(xx.sum() - 2 * within + x_within, left, yy.sum(), m, across.sum() - x_sums)
        without_reference = _unbiased(xx.sum(), n, yy.sum() - 2 * yy + y_within, m - 1, across.sum() - down)
    errors = [_jackknife(each) for each in (without_prompt, without_reference)]
    half = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(sum(errors)))
    return {"value": value, "value_interval": [value - half, value + half] if np.isfinite(half) else None}


def kernel(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "N M"]:
    """The polynomial kernel of KID: (x y / D + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _apart(x: Float[np.ndarray, "N D"]) -> float:
    """Sum of the kernel over all pairs of different rows."""
    return float(kernel(x, x).sum() - ((np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3).sum())


def _unbiased(xx: Any, n: Any, yy: Any, m: Any, xy: Any) -> Any:
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _sums(
    x: Float[np.ndarray, "N D"], codes: Int[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " G"]]:
    """Kernel of each row with all other rows, and of all pairs of different rows within each group."""
    itself = (np.square(x).sum(axis=1) / x.shape[1] + 1) ** 3
    rows, within = np.empty(len(x)), np.zeros(int(codes.max()) + 1)
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        values = kernel(x[part], x)
        rows[part] = values.sum(axis=1) - itself[part]
        same = (values * (codes[part, None] == codes)).sum(axis=1) - itself[part]
        within += np.bincount(codes[part], same, minlength=len(within))
    return rows, within


def _cross(
    x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " M"]]:
    across, down = np.empty(len(x)), np.zeros(len(y))
    for start in range(0, len(x), ROWS):
        values = kernel(x[start : start + ROWS], y)
        across[start : start + ROWS] = values.sum(axis=1)
        down += values.sum(axis=0)
    return across, down


def _jackknife(values: Float[np.ndarray, " G"]) -> float:
    """Variance from the estimates that leave out one group each; infinite where none can be left out."""
    if len(values) < 2 or not np.isfinite(values).all():
        return float("inf")
    return float((len(values) - 1) / len(values) * np.square(values - values.mean()).sum())
