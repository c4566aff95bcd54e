"""Frechet distance that is worse for copies, MiFID for Inception's features (Bai et al., arXiv:2106.03062)."""

import math
from typing import Literal

from mnemoscope import registry
from mnemoscope.measuring import memorization_informed
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.feature_sets import feature_sets


@registry.measure(paper="arXiv:2106.03062", needs=("references",))
def memorization_informed_distance(
    comparison: Comparison,
    *,
    threshold: int | float = 0.1,
    over: Literal["generated", "reference"] = "generated",
    most: int = 10000,
) -> Measured:
    """Frechet distance over the mean cosine distance of images to their nearest reference, if that is small.

    From 0 upwards, lower = better; None for copies alone, where it is infinite. `penalty` is 1 from `threshold` on;
    `over=reference` takes the mean over references, as torchmetrics does. Features are those of --network if there is
    one and of the descriptor if not; `most` images of a side at most are drawn at random. Compares only at equal
    features, thresholds and numbers of images, and has no interval.
    """
    sets = feature_sets(comparison, most)
    if isinstance(sets, Measured):
        return sets
    ours, theirs = sets.generated, sets.reference
    found = memorization_informed.memorization_informed_distance(ours, theirs, threshold=threshold, over=over)
    notes = [*sets.notes, *found.pop("notes")]
    if math.isinf(found["distance"]):
        found["distance"] = None
        notes.append("All that is averaged are copies: the memorization-informed distance is infinite.")
    return Measured(summary=sets.about | {"threshold": threshold, "over": over} | found, notes=notes)
