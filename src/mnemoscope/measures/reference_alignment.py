"""Alignment of training images with their captions (Somepalli et al., NeurIPS 2023, arXiv:2305.20086)."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.bootstrap import Estimates, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2305.20086", needs=("reference images", "captions of references", "an alignment"))
def reference_alignment(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """How well the references show their own first caption: what the alignment of generated images is to be held to.

    `mean` over the references that have a caption and a number, `references` of them, in the unit of the alignment, for
    CLIP the cosine, not times 100; `uncaptioned` and `unknown` count the others. Compares with `alignment` at
    `text=original`, `scale=1` and no clamp. The interval draws references anew.
    """
    corpus = comparison.references
    captioned = [k for k, captions in enumerate(corpus.captions) if captions]
    images = ((corpus.image(k), corpus.captions[k][0]) for k in captioned)
    aligned = comparison.aligned((image, caption) for image, caption in images if image is not None)
    known = aligned[~np.isnan(aligned)]
    summary: Estimates = {"mean": None, "mean_interval": None}
    if known.size:
        summary = estimates({"mean": mean}, known, resamples=resamples, seed=comparison.seed)
    counts = {"references": known.size, "uncaptioned": len(corpus.keys) - len(captioned)}
    return Measured(summary={"model": comparison.judge, **summary, **counts, "unknown": aligned.size - known.size})
