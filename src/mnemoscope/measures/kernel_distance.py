"""Squared maximum mean discrepancy of features, KID for Inception's (Binkowski et al., arXiv:1801.01401)."""

from mnemoscope import registry
from mnemoscope.measuring import kernel_distance as kernels
from mnemoscope.measuring.comparison import Comparison, Measured
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
    found = kernels.kernel_distance(sets.generated, sets.reference, **drawn)
    notes = [*sets.notes, *found.pop("notes")]
    groups = comparison.groups[sets.places].tolist()
    return Measured(summary=sets.about | found | kernels.mmd(sets.generated, sets.reference, groups), notes=notes)
