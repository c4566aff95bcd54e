"""Which prompts said to be memorized bring back their own image."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.own import best_own
from mnemoscope.measuring.verification import verification_counts, verified_prompts


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
    said = {row["prompt"]: row["verified"] for row in rows}
    passed = [bool(score > above) if known else None for score, known in zip(scores, ~np.isnan(scores), strict=True)]
    columns = {"own_passed": passed, "verified": [said.get(group) for group in groups.tolist()]}
    return Measured(columns, {"verification_threshold": above} | verification_counts(rows))
