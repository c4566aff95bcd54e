"""Improved precision and recall of generated images (Kynkaanniemi et al., arXiv:1904.06991)."""

from mnemoscope import registry
from mnemoscope.measuring import neighbours
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.feature_sets import column, feature_sets


@registry.measure(paper="arXiv:1904.06991", needs=("references",))
def precision_recall(comparison: Comparison, *, k: int = 3, strict: bool = False, most: int = 10000) -> Measured:
    """Share of images that lie where the references do, and of references that lie where the images do.

    In [0, 1]: within the distance of a vector to its k-th nearest of its own set; `strict` leaves out this distance
    itself, as the code of arXiv:2212.03860 does. `realism` of each image is 1 and above inside. Copies of references
    are perfectly precise. Features are those of --network if there is one and of the descriptor if not; `most` images
    of a side at most are drawn at random. Compares only at equal features, k and numbers of images.
    """
    sets = feature_sets(comparison, most, least=k + 1)
    if isinstance(sets, Measured):
        return sets
    summary = neighbours.precision_recall(sets.generated, sets.reference, k=k, strict=strict)
    real = neighbours.realism(sets.generated, sets.reference, k=k)
    columns = {"precise": column(comparison, sets, summary["precise"]), "realism": column(comparison, sets, real)}
    groups = comparison.groups[sets.places].tolist()
    shares = ({"precision": summary["precise"]}, {"recall": summary["recalled"]})
    intervals = neighbours.shares(*shares, groups, comparison.seed)
    return Measured(columns, sets.about | intervals, notes=sets.notes)
