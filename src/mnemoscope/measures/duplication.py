"""Whether what lies several times in the training data is copied more (arXiv:2305.20086)."""

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.duplication import by_duplication


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
    found = by_duplication(scores, positions, samples, prompts, mass=known.mass, groups=known.group, **drawn)
    lacking = int((~known.listed).sum())
    notes = [f"{lacking:,} of {len(known.listed):,} references are not in --duplicates: each counts once."]
    return Measured({"match_copies": known.copies[positions].tolist()}, found, notes=notes if lacking else ())
