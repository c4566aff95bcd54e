"""Similarity to an image's own references: those whose caption prompted it, apart from any other."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Prompts, Share, estimates

Scores = Float[np.ndarray, " N"]
Own = Sequence[Sequence[int]]  # positions of each image's own references
ROUNDING = 1e-6  # of a cosine in float32


def best_own(own: Own, own_similarity: Sequence[Float[np.ndarray, " _"]]) -> tuple[Scores, Int[np.ndarray, " N"]]:
    """Similarity and position of each image's most similar own reference; NaN and -1 where it has none.

    Of equally similar ones the first. Raises UsageError unless there is one similarity for each own reference.
    """
    if [len(each) for each in own] != [len(each) for each in own_similarity]:
        raise UsageError("Each image needs one similarity for each of its own references.")
    best = [int(np.argmax(each)) if len(each) else -1 for each in own_similarity]
    scores = [float(each[k]) if k >= 0 else np.nan for each, k in zip(own_similarity, best, strict=True)]
    places = [each[k] if k >= 0 else -1 for each, k in zip(own, best, strict=True)]
    return np.array(scores, dtype=np.float64), np.array(places, dtype=np.int64)


def own_is_nearest(
    own: Own, best: Scores, nearest: Scores, positions: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Whether no reference is more similar to an image than its own: 1 or 0, NaN where it has none.

    A tie counts, up to rounding: a second copy of the own reference is not another image. `nearest` and `positions` are
    those of the most similar of all references.
    """
    matched = np.array([position in each for each, position in zip(own, positions.tolist(), strict=True)])
    return np.where(np.isnan(best), np.nan, (matched | (best >= nearest - ROUNDING)).astype(np.float64))


def nearest_rate(
    is_nearest: Float[np.ndarray, " N"],
    own: Own,
    references: int,
    prompts: Prompts = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimates:
    """How often an image's own reference is its nearest, with its interval over prompts, and how often chance would.

    Shares in [0, 1] of the images that have a reference of their own, `own_images` of them. `own_nearest_chance` is the
    mean share that an image's own references are of all. Raises UsageError if no image has one.
    """
    there = np.array([len(each) > 0 for each in own])
    if not there.any():
        raise UsageError("No image has a reference of its own; give references with captions that are prompts.")
    asked = None if prompts is None else [prompt for prompt, known in zip(prompts, there, strict=True) if known]
    rate = {"own_nearest_rate": Share(0.5)}
    chance = float(np.mean([len(each) / references for each in own if each]))
    return {
        **estimates(rate, is_nearest[there], asked, resamples=resamples, seed=seed),
        "own_nearest_chance": chance,
        "own_images": int(there.sum()),
    }
