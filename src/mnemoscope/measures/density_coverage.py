"""Density and coverage of generated images (Naeem et al., ICML 2020, arXiv:2002.09797)."""

from mnemoscope import registry
from mnemoscope.measuring import neighbours
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.feature_sets import column, feature_sets


@registry.measure(paper="arXiv:2002.09797", needs=("references",))
def density_coverage(comparison: Comparison, *, k: int = 5, strict: bool = True, most: int = 10000) -> Measured:
    """How many references' neighbourhoods an image lies in, and the share of those that hold an image.

    A neighbourhood reaches to the k-th nearest other reference. `density`, over k, is 1 on average for equal
    distributions and may be larger; `coverage` is in [0, 1]. Unlike precision and recall, both stand a few odd images.
    Features are those of --network if there is one and of the descriptor if not; `most` images of a side at most are
    drawn at random. Compares only at equal features, k and numbers of images.
    """
    sets = feature_sets(comparison, most, least=k + 1)
    if isinstance(sets, Measured):
        return sets
    values_of = neighbours.density_coverage(sets.generated, sets.reference, k=k, strict=strict)
    groups = comparison.groups[sets.places].tolist()
    values = ({"density": values_of["density"]}, {"coverage": values_of["covered"]})
    shares = neighbours.shares(*values, groups, comparison.seed)
    columns = {"density": column(comparison, sets, values_of["density"])}
    return Measured(columns, sets.about | shares, notes=sets.notes)
