"""Frechet distance of features, FID for Inception's and CLIP-FID for CLIP's (Heusel et al., arXiv:1706.08500)."""

from mnemoscope import registry
from mnemoscope.measuring import frechet
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.feature_sets import feature_sets


@registry.measure(paper="arXiv:1706.08500", needs=("references",))
def frechet_distance(comparison: Comparison, *, most: int = 50000) -> Measured:
    """How far mean and covariance of the features of generated images are from those of references.

    From 0 upwards, lower = more alike; `of_means` and `of_covariances` add up to `distance`. Features are those of
    --network if there is one and of the descriptor if not; `most` images of a side at most are drawn at random.
    Compares only at equal features and numbers of images, and has no interval, as a note says.
    """
    sets = feature_sets(comparison, most)
    if isinstance(sets, Measured):
        return sets
    summary = frechet.frechet_distance(sets.generated, sets.reference)
    notes = [*sets.notes, *summary.pop("notes")]
    return Measured(summary=sets.about | summary, notes=notes)
