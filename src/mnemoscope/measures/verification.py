"""Which prompts said to be memorized bring back their own image."""

from collections.abc import Hashable, Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.own import best_own
from mnemoscope.stats import wilson_interval


@registry.measure(paper="arXiv:2406.02366", needs=("references", "own references"))
def verification(comparison: Comparison, *, threshold: int | float | None = None) -> Measured:
    """Which prompts bring back the reference they are the caption of, with which seeds, and how many of the list do.

    A prompt is verified if an image of it is more similar to its own reference than a threshold, in the descriptor's
    similarity; without one, than the comparison's. Prompts without such a reference are unknown; those labelled as not
    memorized are left out. Shares in [0, 1] have Wilson's intervals.
    """
    scores, _ = best_own(comparison.own, comparison.own_similarity)
    asked = np.array([generated.label is not False for generated in comparison.generated])
    listed = np.flatnonzero(asked)
    above = comparison.threshold if threshold is None else threshold
    groups, seeds = comparison.groups, [generated.seed for generated in comparison.generated]
    rows = verified_prompts(scores[listed], groups[listed].tolist(), [seeds[k] for k in listed], threshold=above)
    verdicts = {row["prompt"]: row["verified"] for row in rows}
    passed = [bool(score > above) if known else None for score, known in zip(scores, ~np.isnan(scores), strict=True)]
    columns = {"own_passed": passed, "verified": [verdicts.get(group) for group in groups.tolist()]}
    return Measured(columns, {"verification_threshold": above, **verification_counts(rows)})


class VerifiedPrompt(TypedDict):
    """Whether an image of a prompt is its own reference: the seeds that were looked at, and those that passed."""

    prompt: Hashable
    seeds: list[int | None]
    passed: list[int | None]
    best: float | None
    verified: bool | None


class VerificationCounts(TypedDict):
    """How many prompts and images passed, with 95 % intervals of the shares."""

    verified: int
    unverified: int
    unknown: int
    images: int
    images_passed: int
    verified_rate: float | None
    verified_rate_interval: list[float] | None
    all_seeds_rate: float | None
    all_seeds_rate_interval: list[float] | None


def verified_prompts(
    own: Float[np.ndarray, " N"],
    prompts: Sequence[Hashable],
    seeds: Sequence[int | None],
    *,
    threshold: int | float,
) -> list[VerifiedPrompt]:
    """Whether an image of each prompt is more similar to its own reference than a threshold, and with which seeds.

    Prompts come in order of first appearance. `verified` is None where no image has a reference of its own (`own` is
    NaN), as when the original is gone; otherwise it says whether the best similarity is strictly above the threshold.
    `seeds` lists those of the images looked at, `passed` those above it. Raises UsageError unless there are as many
    prompts and seeds as similarities.
    """
    if not len(own) == len(prompts) == len(seeds):
        raise UsageError(f"{len(own)} similarities came with {len(prompts)} prompts and {len(seeds)} seeds.")
    members: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(place)
    return [_verified(prompt, places, own, seeds, threshold) for prompt, places in members.items()]


def verification_counts(rows: Sequence[VerifiedPrompt]) -> VerificationCounts:
    """How many prompts of `verified_prompts` are verified, not verified, and unknown, and how many images passed.

    `verified_rate` is the share of the known prompts that are verified, in [0, 1], with Wilson's 95 % interval;
    `all_seeds_rate` the share of those whose every image passed. Both are None if no prompt is known.
    """
    known = [row for row in rows if row["verified"] is not None]
    verified = sum(bool(row["verified"]) for row in known)
    steady = sum(len(row["passed"]) == len(row["seeds"]) for row in known)
    return {
        "verified": verified,
        "unverified": len(known) - verified,
        "unknown": len(rows) - len(known),
        "images": sum(len(row["seeds"]) for row in known),
        "images_passed": sum(len(row["passed"]) for row in known),
        "verified_rate": verified / len(known) if known else None,
        "verified_rate_interval": list(wilson_interval(verified, len(known))) if known else None,
        "all_seeds_rate": steady / len(known) if known else None,
        "all_seeds_rate_interval": list(wilson_interval(steady, len(known))) if known else None,
    }


def _verified(
    prompt: Hashable,
    places: list[int],
    own: Float[np.ndarray, " N"],
    seeds: Sequence[int | None],
    threshold: int | float,
) -> VerifiedPrompt:
    known = [place for place in places if not np.isnan(own[place])]
    passed = [seeds[place] for place in known if own[place] > threshold]
    return {
        "prompt": prompt,
        "seeds": [seeds[place] for place in known],
        "passed": passed,
        "best": max((float(own[place]) for place in known), default=None),
        "verified": bool(passed) if known else None,
    }
