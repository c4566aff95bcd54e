"""Similarity to the nearest reference (Somepalli et al., CVPR 2023, arXiv:2212.03860)."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.bootstrap import Share, estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.replication import distribution, threshold_curve


@registry.measure(paper="arXiv:2212.03860", needs=("references",), tells=("score", "replicated"))
def replication(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """Share of images more similar to a reference than the threshold, and how similar images are to their nearest.

    `replication_rate` in [0, 1] counts what is strictly above the comparison's threshold, `above_half` above 0.5 as the
    paper does; the others are in the descriptor's similarity. They compare only within one descriptor and preset, and
    among sets of references of the same size: the more references, the nearer the nearest. Intervals draw prompts anew.
    """
    similarity, asked = comparison.nearest[0][:, 0], comparison.groups
    shares = {"replication_rate": Share(comparison.threshold), "above_half": Share(0.5)}
    summary = estimates(shares, similarity, asked, resamples=resamples, seed=comparison.seed)
    summary |= distribution(similarity, asked, resamples=resamples, seed=comparison.seed)
    curve = threshold_curve(similarity, asked, resamples=resamples, seed=comparison.seed)
    drawn = np.array([[point["threshold"], point["share"], *point["interval"]] for point in curve])
    return Measured(
        columns={"replicated": (similarity > comparison.threshold).tolist()},
        summary=summary,
        arrays=dict(zip(("thresholds", "share", "low", "high"), drawn.T.copy(), strict=True)),
    )
