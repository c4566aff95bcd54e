"""Similarity to the reference whose caption prompted the image."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.bootstrap import Share, estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.own import best_own, nearest_rate, own_is_nearest
from mnemoscope.measuring.replication import distribution


@registry.measure(paper="arXiv:2212.03860", needs=("references", "own references"))
def own_image(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """How similar images are to the reference whose caption prompted them, and how often no other is nearer.

    In the descriptor's similarity, apart from that to any reference: a model can repeat an image that it was not asked
    for. Of several references with the caption the most similar counts. `own_rate` is the share strictly above the
    comparison's threshold, `own_nearest_rate` to be compared with `own_nearest_chance`; both of the `own_images` that
    have a reference of their own. Intervals draw prompts anew.
    """
    own, asked, seed = comparison.own, comparison.groups, comparison.seed
    scores, positions = best_own(own, comparison.own_similarity)
    nearest, places = (side[:, 0] for side in comparison.nearest)
    first, there = own_is_nearest(own, scores, nearest, places), ~np.isnan(scores)
    summary = distribution(scores[there], asked[there], name="own", resamples=resamples, seed=seed)
    rate = {"own_rate": Share(comparison.threshold)}
    summary |= estimates(rate, scores[there], asked[there], resamples=resamples, seed=seed)
    keys = comparison.references.keys
    summary |= nearest_rate(first, own, len(keys), asked, resamples=resamples, seed=seed)
    columns = {
        "own_match": [keys[k] if k >= 0 else None for k in positions.tolist()],
        "own_is_nearest": [bool(value) if known else None for value, known in zip(first, there, strict=True)],
    }
    return Measured(columns, summary)
