"""How similar references are to one another: what a similarity has to exceed to be remarkable."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Prompts, Weights, draws, groups, spread
from mnemoscope.search.topk import top_k
from mnemoscope.stats import auc, wilson_interval

Similarity = Float[np.ndarray, " N"]
Counts = Float[np.ndarray, " N"]
Places = Int[np.ndarray, " N"]


def sampled(count: int, most: int, seed: int = 0) -> Int[np.ndarray, " S"]:
    """Positions of at most so many references, drawn without replacement and in rising order; all if they are fewer."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def nearest_other(
    blocks: Iterable[Float[np.ndarray, "_ _"]],
    queries: Float[np.ndarray, "S D"],
    positions: Int[np.ndarray, " S"],
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " S"]]:
    """Similarity and position of the reference most similar to each of some references, itself left out by position.

    `queries` are the vectors of the references at `positions` among all those of `blocks`. An exact copy under another
    position counts: it is another training image. Raises UsageError for fewer than two references.
    """
    scores, indices = top_k(queries, blocks, 1, exclude=positions)
    if (indices < 0).any():
        raise UsageError("A background needs at least two references; give more.")
    return scores[:, 0], indices[:, 0]


def separation(
    similarity: Similarity,
    background: Float[np.ndarray, " S"],
    prompts: Prompts = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimates:
    """Probability that a generated image is more similar to its nearest reference than a reference is to its own.

    The AUROC of the two groups in [0, 1], ties counting half: 0.5 where generated images are no closer to references
    than references are to one another. The interval draws prompts with all their images, and references, anew;
    Wilson's stands in where all pairs agree. Raises UsageError for an empty group, a value that is not finite, a number
    of prompts other than that of similarities, no resamples or a level outside (0, 1).
    """
    codes, others = groups(prompts, similarity), np.arange(background.size)
    value = auc(similarity, background)
    if value in (0, 1):
        trials = min(int(codes.max()) + 1, background.size)
        interval: list[float] | None = list(wilson_interval(round(value) * trials, trials, level))
    else:
        sides = [np.searchsorted(np.sort(background), similarity, side=side) for side in ("left", "right")]
        ours, theirs = draws(codes, resamples=resamples, seed=seed), draws(others, resamples=resamples, seed=seed + 1)
        drawn = [_drawn_auc(mine, them, *sides) for mine, them in zip(_rows(ours), _rows(theirs), strict=True)]
        interval = spread(np.array(drawn), level)
    return {"auroc": value, "auroc_interval": interval}


def _rows(blocks: Iterable[Weights]) -> Iterator[Counts]:
    for block in blocks:
        yield from block


def _drawn_auc(mine: Counts, theirs: Float[np.ndarray, " S"], below: Places, through: Places) -> float:
    """AUC of a resample; of `theirs`, in rising order, so many lie below each similarity, and so many not above it."""
    passed = np.append(0, np.cumsum(theirs))
    return float(mine @ (passed[below] + passed[through]) / (2 * mine.sum() * passed[-1]))
