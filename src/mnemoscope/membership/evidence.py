"""From signals of two sets of pictures to one score a picture and a p for the set; pictures are the unit.

Everything that is fitted is fitted without the picture that it scores, and the p is that of a permutation test in which
the whole fit is repeated for each permutation: under the null hypothesis that the pictures under question and the held
out ones were drawn alike and neither was trained on, P(p <= a) <= a for any a and any number of pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mnemoscope.stats import auc, bootstrap_interval

Features = Float[np.ndarray, "N F"]
Mask = Bool[np.ndarray, " N"]
FOLDS, DIVISIONS, PERMUTATIONS, AT_ONCE = 5, 10, 9999, 500
SHRINKAGE = 0.5  # of the features' correlations towards none


class SetEvidence(NamedTuple):
    """What a test of two sets says: p, AUC with its interval, and a score of each picture, higher = more a member.

    Scores of the pictures that only the fit saw are NaN.
    """

    p: float
    auc: float
    interval: tuple[float, float]
    scores: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class CrossFold:
    """Pictures that a score is fitted on, and those that it scores."""

    fitted: Int[np.ndarray, " A"]
    scored: Int[np.ndarray, " T"]


def normal_scores(features: Features) -> Features:
    """Each feature's ranks over all pictures as quantiles of the normal distribution, ties at their mean rank.

    No labels go in, so that no permutation of them changes it. A constant feature is 0.
    """
    quantiles = np.array([NormalDist().inv_cdf((k + 0.5) / len(features)) for k in range(len(features))])
    columns = []
    for values in features.T:
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.concatenate([[0], np.cumsum(counts)])
        means = np.array([quantiles[a:b].mean() for a, b in zip(ends, ends[1:], strict=False)])
        columns.append(means[places])
    return np.stack(columns, axis=1)


def adjusted(features: Features, plain: Float[np.ndarray, "N P"], ridge: float = 1.0) -> Features:
    """Features less what a ridge regression on plain ones explains of them, over all pictures and without labels.

    Hard pictures have a high loss whether they were trained on or not; what is left compares alike pictures.
    """
    design = np.concatenate([plain, plain**2], axis=1)
    design = design - design.mean(0)
    weights = np.linalg.solve(design.T @ design + ridge * np.eye(design.shape[1]), design.T @ features)
    return features - features.mean(0) - design @ weights


def compared(
    features: Features,
    member: Mask,
    *,
    public: Mask | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> SetEvidence:
    """p, AUC and scores of the pictures under question against held-out ones; see `p_of_set`.

    The interval of the AUC draws pictures anew, and is as wide at least as refits to permuted sets vary, as far as an
    AUC can: fitted scores vary by more than their pictures. It is of 95 %.
    """
    labels, folds = _split(member, public, seed)
    solved = [_solved(features, fold) for fold in folds]
    scores = _scores(folds, solved, labels[:, None])[:, 0]
    groups = scores[member], scores[(labels == 0) & ~np.isnan(scores)]
    value = auc(*groups)
    low, high = bootstrap_interval(auc, *groups, seed=seed)
    half = 1.96 * _deviation(folds, solved, labels, seed) * 2 * math.sqrt(value * (1 - value))
    interval = max(0.0, min(low, value - half)), min(1.0, max(high, value + half))
    p = p_of_set(features, member, public=public, permutations=permutations, seed=seed)
    return SetEvidence(p, value, interval, scores)


def _deviation(
    folds: Sequence[CrossFold],
    solved: Sequence[Float[np.ndarray, "..."]],
    labels: Float[np.ndarray, " N"],
    seed: int,
) -> float:
    """Standard deviation of the AUC over permutations, the fit repeated."""
    moved = _moved(folds)
    drawn = _permuted(labels, moved, AT_ONCE, np.random.default_rng([seed, 2]))
    ranks = _scores(folds, solved, drawn)[moved].argsort(0).argsort(0)
    ones = drawn[moved].sum(0)
    pairs = (ranks * drawn[moved]).sum(0) - ones * (ones - 1) / 2
    return float((pairs / (ones * (len(moved) - ones))).std())


def p_of_set(
    features: Features,
    member: Mask,
    *,
    public: Mask | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """How likely pictures under question score as far above held-out ones if all were drawn alike and none trained on.

    `member` marks the pictures under question, the others are held out. The score is a shrunk linear discriminant of
    the features. Without `public` pictures each of 5 folds is scored by a fit on the other four, of both sets, in 10
    divisions that know nothing of the sets. With them, which surely were trained on, the fit is of those against one
    half of the held-out ones, and the test is on the other half. The statistic is the difference of mean scores in
    units of their deviation, summed over folds; p is the share of permutations, the fit repeated, that reach it.
    """
    labels, folds = _split(member, public, seed)
    solved = [_solved(features, fold) for fold in folds]
    observed = _statistic(folds, solved, labels[:, None])
    rng = np.random.default_rng([seed, 1])
    moved, reached = _moved(folds), 0
    for start in range(0, permutations, AT_ONCE):
        drawn = _permuted(labels, moved, min(AT_ONCE, permutations - start), rng)
        reached += int((_statistic(folds, solved, drawn) >= observed - 1e-12).sum())
    return (1 + reached) / (1 + permutations)


def _split(member: Mask, public: Mask | None, seed: int) -> tuple[Float[np.ndarray, " N"], list[CrossFold]]:
    """1 for pictures under question and public ones, 0 for held-out ones, and what is fitted and scored."""
    rng = np.random.default_rng([seed, 0])
    if public is None or not public.any():
        return member.astype(float), _folds(len(member), rng)
    return (member | public).astype(float), [_halved(member, public, rng)]


def _moved(folds: Sequence[CrossFold]) -> Int[np.ndarray, " M"]:
    """The pictures whose sets a permutation exchanges: those that are scored."""
    return np.unique(np.concatenate([fold.scored for fold in folds]))


def _permuted(
    labels: Float[np.ndarray, " N"], moved: Int[np.ndarray, " M"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "N R"]:
    drawn = np.repeat(labels[:, None], count, axis=1)
    drawn[moved] = rng.permuted(drawn[moved], axis=0)
    return drawn


def _folds(count: int, rng: np.random.Generator) -> list[CrossFold]:
    """The folds of all divisions."""
    numbers = [rng.permutation(np.arange(count) % FOLDS) for _ in range(DIVISIONS)]
    return [CrossFold(np.flatnonzero(each != k), np.flatnonzero(each == k)) for each in numbers for k in range(FOLDS)]


def _halved(member: Mask, public: Mask, rng: np.random.Generator) -> CrossFold:
    """Public pictures and half of the held-out ones to fit on, the pictures under question and the rest to score."""
    held_out = rng.permutation(np.flatnonzero(~member & ~public))
    half = len(held_out) // 2
    return CrossFold(
        np.concatenate([np.flatnonzero(public), held_out[:half]]),
        np.concatenate([np.flatnonzero(member), held_out[half:]]),
    )


def _solved(features: Features, fold: CrossFold) -> Float[np.ndarray, "T A"]:
    """What a fold's scores are of the weights of the pictures that it was fitted on: they are linear in them.

    Fisher's discriminant with the correlations of all fitted pictures, shrunk: weights = S^-1 (mean_1 - mean_0).
    """
    own = features[fold.fitted]
    mean, deviation = own.mean(0), own.std(0)
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    own, others = (own - mean) / scale, (features[fold.scored] - mean) / scale
    correlations = (1 - SHRINKAGE) * own.T @ own / len(own) + SHRINKAGE * np.eye(own.shape[1])
    return others @ np.linalg.solve(correlations, own.T)


def _statistic(
    folds: Sequence[CrossFold], solved: Sequence[Float[np.ndarray, "..."]], labels: Float[np.ndarray, "N R"]
) -> Float[np.ndarray, " R"]:
    total = np.zeros(labels.shape[1])
    for fold, matrix in zip(folds, solved, strict=True):
        scores, tried = matrix @ _contrast(labels[fold.fitted]), labels[fold.scored]
        total += len(tried) * (scores * _contrast(tried)).sum(0) / np.maximum(scores.std(0), 1e-12)
    return total


def _contrast(labels: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "K R"]:
    """Weights of which a sum is the mean where labels are 1 less that where they are 0."""
    ones = labels.sum(0)
    return labels / np.maximum(ones, 1) - (1 - labels) / np.maximum(len(labels) - ones, 1)


def _scores(
    folds: Sequence[CrossFold], solved: Sequence[Float[np.ndarray, "..."]], labels: Float[np.ndarray, "N R"]
) -> Float[np.ndarray, "N R"]:
    """Mean scores over divisions, in deviations of their fold from its mean, so that those of several fits compare."""
    total, times = np.zeros(labels.shape), np.zeros((len(labels), 1))
    for fold, matrix in zip(folds, solved, strict=True):
        scores = matrix @ _contrast(labels[fold.fitted])
        total[fold.scored] += (scores - scores.mean(0)) / np.maximum(scores.std(0), 1e-12)
        times[fold.scored] += 1
    return np.where(times > 0, total / np.maximum(times, 1), np.nan)
