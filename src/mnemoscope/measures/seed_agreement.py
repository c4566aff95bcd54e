"""Whether a prompt gives the same image whatever the seed, without training images (after Verma et al., 2026)."""

import math
from collections.abc import Hashable, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="Verma et al., 2026", needs=("several images a prompt",), tells=("seed_agreement",))
def seed_agreement(comparison: Comparison, *, threshold: int | float | None = None) -> Measured:
    """Mean similarity of the pairs of a prompt's images, and the share of images that agree with another one.

    `agreement` is in the descriptor's similarity, higher = the same image again and again, as of memorized prompts and
    of prompts that leave nothing open. `agreeing` in [0, 1] is the share with a similarity strictly above `threshold`,
    the comparison's if None. Means over prompts of at least two images, prompts drawn anew for intervals.
    """
    above = comparison.threshold if threshold is None else threshold
    rows = agreement_by_prompt(comparison.vectors, comparison.groups.tolist(), threshold=above)
    values = np.empty(len(comparison.generated))
    for row in rows:
        values[row["places"]] = row["agreement"]
    summary = agreement_summary(rows, comparison.seed)
    return Measured({"seed_agreement": values.tolist()}, {"agreement_threshold": above} | summary)


class PromptAgreement(TypedDict):
    """How much the images of a prompt agree, and the places of these."""

    prompt: Hashable
    places: list[int]
    agreement: float
    agreeing: float


def agreement_by_prompt(
    vectors: Float[np.ndarray, "N D"], prompts: Sequence[Hashable], *, threshold: int | float
) -> list[PromptAgreement]:
    """Mean similarity of the pairs of images of each prompt, and the share of images that agree with another one.

    Prompts come in order of first appearance, each with `places`, the rows of its images. `agreement` is the mean inner
    product over pairs of different images, in [-1, 1] for unit vectors; higher means that the prompt gives the same
    image again and again, as memorized prompts do, and as prompts do that leave nothing open. `agreeing` is the share
    of images with a similarity strictly above `threshold` to another one of the prompt, in [0, 1]. Both are NaN for a
    single image. Raises UsageError for a number of prompts other than that of vectors.
    """
    if len(prompts) != len(vectors):
        raise UsageError(f"{len(prompts)} prompts were given for {len(vectors)} vectors; give one prompt for each.")
    members: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(place)
    return [_agreement(prompt, at, vectors[at], threshold) for prompt, at in members.items()]


def agreement_summary(rows: Sequence[PromptAgreement], seed: int = 0) -> Estimates:
    """Means over prompts of what `agreement_by_prompt` says, with 95 % intervals; None if no prompt has two images."""
    known = [row for row in rows if len(row["places"]) > 1]
    summary: Estimates = {"prompts": len(known), "single": len(rows) - len(known)}
    values = {"agreement": [row["agreement"] for row in known], "agreeing": [row["agreeing"] for row in known]}
    for name, of_prompts in values.items():
        if known:
            summary |= estimates({name: mean}, np.array(of_prompts), seed=seed)
        else:
            summary |= {name: None, f"{name}_interval": None}
    return summary


def _agreement(
    prompt: Hashable, places: list[int], vectors: Float[np.ndarray, "S D"], threshold: int | float
) -> PromptAgreement:
    if len(vectors) < 2:
        return {"prompt": prompt, "places": places, "agreement": math.nan, "agreeing": math.nan}
    exact = vectors.astype(np.float64)
    similarity = exact @ exact.T
    np.fill_diagonal(similarity, -np.inf)
    pairs = similarity[np.triu_indices(len(vectors), 1)]
    agreeing = float((similarity.max(axis=1) > threshold).mean())
    return {"prompt": prompt, "places": places, "agreement": float(pairs.mean()), "agreeing": agreeing}
