"""Whether a prompt gives the same image whatever the seed, without training images (after Verma et al., 2026)."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring import agreement
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="Verma et al., 2026", needs=("several images a prompt",))
def seed_agreement(comparison: Comparison, *, threshold: int | float | None = None) -> Measured:
    """Mean similarity of the pairs of a prompt's images, and the share of images that agree with another one.

    `agreement` is in the descriptor's similarity, higher = the same image again and again, as of memorized prompts and
    of prompts that leave nothing open. `agreeing` in [0, 1] is the share with a similarity strictly above `threshold`,
    the comparison's if None. Means over prompts of at least two images, prompts drawn anew for intervals.
    """
    above = comparison.threshold if threshold is None else threshold
    rows = agreement.seed_agreement(comparison.vectors, comparison.groups.tolist(), threshold=above)
    values = np.empty(len(comparison.generated))
    for row in rows:
        values[row["places"]] = row["agreement"]
    said = agreement.agreement_summary(rows, comparison.seed)
    return Measured({"seed_agreement": values.tolist()}, {"agreement_threshold": above} | said)
