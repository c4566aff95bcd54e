"""Whether what lies several times in the training data is copied more (arXiv:2305.20086)."""

from typing import TypedDict

import numpy as np
from jaxtyping import Float, Int

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Prompts, Share, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured

Copies = Float[np.ndarray, " M"] | Int[np.ndarray, " M"]


@registry.measure(paper="arXiv:2305.20086", needs=("references", "counts of duplicates"))
def duplication(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """How similar images are to their nearest reference, by whether that lies more than once in the training data.

    Means of `duplicated` and of `single` in the descriptor's similarity. `matches_duplicated` is the share of images
    whose nearest reference is duplicated; matches drawn like training samples would have `sampled_duplicated`, all in
    [0, 1]. Intervals draw prompts anew.
    """
    known = comparison.multiplicity
    if known is None:
        raise UsageError("How often each reference lies in the training data is not known; give --duplicates.")
    scores, positions = (side[:, 0] for side in comparison.nearest)
    drawn = {"resamples": resamples, "seed": comparison.seed}
    samples, prompts = known.copies, comparison.groups
    summary = by_duplication(scores, positions, samples, prompts, mass=known.mass, groups=known.group, **drawn)
    lacking = int((~known.listed).sum())
    notes = [f"{lacking:,} of {len(known.listed):,} references are not in --duplicates: each counts once."]
    return Measured({"match_copies": known.copies[positions].tolist()}, summary, notes=notes if lacking else ())


def by_duplication(
    similarity: Float[np.ndarray, " N"],
    positions: Int[np.ndarray, " N"],
    copies: Copies,
    prompts: Prompts = None,
    *,
    mass: Copies | None = None,
    groups: Int[np.ndarray, " M"] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimates:
    """Similarity to the nearest reference, by whether that reference lies more than once in the training data.

    `copies` says how often what a reference shows was trained on, or its sampling weight; `positions` which one is
    nearest. Where several references show the same, as `groups` says, `mass` is each one's own part of the copies.
    Of each of `duplicated` and `single` there are `images`, `mean` and `interval`, a mean being None where nothing
    matched. `matches_duplicated` is the share of images whose nearest is duplicated, with its interval over prompts;
    `sampled_duplicated` that of the training samples, which matches drawn like training samples would have;
    `listed_duplicated` that of the distinct images. Raises UsageError for copies that are negative, not finite or all
    0, a position without copies, or what `mnemoscope.measuring.bootstrap.estimates` refuses.
    """
    _require_copies(copies, positions)
    is_duplicated = copies[positions] > 1
    summary: Estimates = {
        "duplicated": _mean_of(similarity, is_duplicated, prompts, resamples, seed),
        "single": _mean_of(similarity, ~is_duplicated, prompts, resamples, seed),
    }
    matches = {"matches_duplicated": Share(0.5)}
    summary |= estimates(matches, is_duplicated.astype(np.float64), prompts, resamples=resamples, seed=seed)
    weight = copies if mass is None else mass
    summary["sampled_duplicated"] = float(weight[copies > 1].sum() / weight.sum())
    first = np.arange(len(copies)) if groups is None else np.unique(groups, return_index=True)[1]
    summary["listed_duplicated"] = float(np.mean(copies[first] > 1))
    return summary


class MemberMean(TypedDict):
    """The mean of some images, with its 95 % interval over prompts; None of none."""

    images: int
    mean: float | None
    interval: list[float] | None


def _mean_of(
    similarity: Float[np.ndarray, " N"], member: np.ndarray, prompts: Prompts, resamples: int, seed: int
) -> MemberMean:
    """Mean and interval of the members' similarity, with prompts drawn anew."""
    count = int(member.sum())
    if not count:
        return {"images": 0, "mean": None, "interval": None}
    asked = (
        None if prompts is None else [prompt for prompt, is_one in zip(prompts, member.tolist(), strict=True) if is_one]
    )
    estimate = estimates({"mean": mean}, similarity[member], asked, resamples=resamples, seed=seed)
    return {"images": count, "mean": estimate["mean"], "interval": estimate["mean_interval"]}


def _require_copies(copies: Copies, positions: Int[np.ndarray, " N"]) -> None:
    if positions.size and not 0 <= positions.min() <= positions.max() < copies.size:
        raise UsageError(f"A match lies beyond the {copies.size} references whose copies are known.")
    if not np.isfinite(copies).all() or (copies < 0).any() or not copies.sum():
        raise UsageError("Copies of references are negative, not finite or all 0; give how often each was trained on.")
