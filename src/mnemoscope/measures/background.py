"""Similarity of references to one another (Somepalli et al., CVPR 2023, arXiv:2212.03860)."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.background import nearest_other, sampled, separation
from mnemoscope.measuring.bootstrap import Share, estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.replication import distribution, histogram


@registry.measure(paper="arXiv:2212.03860", needs=("references",))
def background(comparison: Comparison, *, most: int = 10000, resamples: int = 1000) -> Measured:
    """How similar references are to the nearest of the others, and whether generated images are nearer to one.

    In the descriptor's similarity; of at most `most` references, drawn at random, each against all, itself left out and
    exact copies not. `auroc` in [0, 1] is 0.5 where generated images are no nearer to references than these to one
    another; `background_rate` is the share of references that would count as copies. Fewer than two references have no
    background, which is then a note.
    """
    vectors = comparison.reference_vectors
    if len(vectors) < 2:
        return Measured(notes=["There is one reference: a background of references needs two."])
    seed, similarity = comparison.seed, comparison.nearest[0][:, 0]
    positions = sampled(len(vectors), most, seed)
    to_others, _ = nearest_other(comparison.references.blocks(), vectors[positions], positions)
    rate = {"background_rate": Share(comparison.threshold)}
    summary = distribution(to_others, name="background", resamples=resamples, seed=seed)
    summary |= estimates(rate, to_others, resamples=resamples, seed=seed)
    summary |= separation(similarity, to_others, comparison.groups, resamples=resamples, seed=seed)
    counted, theirs = histogram(similarity), histogram(to_others)
    arrays = {"similarity": to_others, "edges": np.array(counted["edges"])}
    arrays |= {"generated_counts": np.array(counted["counts"]), "background_counts": np.array(theirs["counts"])}
    return Measured(summary={"background_references": len(positions)} | summary, arrays=arrays)
