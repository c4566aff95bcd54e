"""How similar generated images are to their nearest references: share, mean, percentiles, histogram."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Percentile, Prompts, Share, Statistic, estimates, mean, sd

Similarity = Float[np.ndarray, " N"]
PERCENTILES = (75, 90, 95)
THRESHOLDS = tuple(k / 50 for k in range(50))
EDGES = 200


class ThresholdShare(TypedDict):
    """The share of images above a threshold, with its 95 % interval."""

    threshold: int | float
    share: float
    interval: list[float]


class SimilarityHistogram(TypedDict):
    """How many similarities lie between two edges each, and outside of all."""

    edges: list[float]
    counts: list[int]
    density: list[float]
    below: int
    above: int


def distribution(
    similarity: Similarity,
    prompts: Prompts = None,
    *,
    name: str = "similarity",
    resamples: int = 1000,
    seed: int = 0,
) -> Estimates:
    """Mean, population standard deviation and percentiles 75, 90, 95 of similarities, each with its 95 % interval.

    In the unit of the similarity. The keys are `<name>_mean`, `_sd`, `_p75`, `_p90`, `_p95`; "dataset similarity" of
    arXiv:2212.03860 is the last one, of each image's similarity to its nearest reference. Intervals as in
    `mnemoscope.measuring.bootstrap.estimates`, which also says what raises.
    """
    named: dict[str, Statistic] = {f"{name}_mean": mean, f"{name}_sd": sd}
    named |= {f"{name}_p{q}": Percentile(q) for q in PERCENTILES}
    return estimates(named, similarity, prompts, resamples=resamples, seed=seed)


def threshold_curve(
    similarity: Similarity,
    prompts: Prompts = None,
    *,
    thresholds: Sequence[int | float] = THRESHOLDS,
    resamples: int = 1000,
    seed: int = 0,
) -> list[ThresholdShare]:
    """Share of images more similar than a threshold, strictly, for each threshold: `threshold, share, interval`.

    Shares in [0, 1], with 95 % intervals over prompts; raises as `mnemoscope.measuring.bootstrap.estimates` does.
    """
    statistics = {str(k): Share(t) for k, t in enumerate(thresholds)}
    summary = estimates(statistics, similarity, prompts, resamples=resamples, seed=seed)
    return [
        {"threshold": t, "share": summary[str(k)], "interval": summary[f"{k}_interval"]}
        for k, t in enumerate(thresholds)
    ]


def histogram(similarity: Similarity, edges: int = EDGES) -> SimilarityHistogram:
    """How many similarities fall between equal steps from 0 to 1, and their density there.

    `counts` and `density` have one number less than `edges`; `below` and `above` count what lies outside and takes no
    part in the density, which integrates to 1 over [0, 1]. Raises UsageError for fewer than two edges.
    """
    if edges < 2:
        raise UsageError(f"{edges} edges were asked for; a histogram has at least 2.")
    counts, at = np.histogram(similarity, np.linspace(0, 1, edges))
    density = counts / np.diff(at) / max(counts.sum(), 1)
    return {
        "edges": at.tolist(),
        "counts": counts.tolist(),
        "density": density.tolist(),
        "below": int((similarity < 0).sum()),
        "above": int((similarity > 1).sum()),
    }


def dcr_statistics(
    similarity: Float[np.ndarray, "references generated"],
    similarity_wtrain: Float[np.ndarray, "references references"],
) -> dict[str, float]:
    """The eleven numbers that the code of Somepalli et al. logs, from whole matrices of similarities.

    Those of the generated images' best similarity (`sim_*`) and of each reference's second best among the references
    (`bg_*`), whose best is taken to be itself: mean, population standard deviation, percentiles 75, 90 and 95; and
    `sim_gt_05pc`, the share strictly above 0.5. arXiv:2212.03860 and 2305.20086. Raises UsageError for an empty
    matrix, or fewer than two references.
    """
    if similarity.size == 0 or len(similarity_wtrain) < 2:
        raise UsageError("The statistics need a generated image and two references; give larger matrices.")
    nearest, background = similarity.max(axis=0), np.partition(similarity_wtrain, -2, axis=1)[:, -2]
    return {
        **_logged("sim", nearest),
        **_logged("bg", background),
        "sim_gt_05pc": float(np.mean(nearest > 0.5)),
    }


def _logged(name: str, values: Similarity) -> dict[str, float]:
    exact = values.astype(np.float64)
    percentiles = {f"{name}_{q}pc": float(np.percentile(exact, q)) for q in PERCENTILES}
    return {f"{name}_mean": float(exact.mean()), f"{name}_std": float(exact.std()), **percentiles}
