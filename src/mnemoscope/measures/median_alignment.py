"""Alignment of images with their prompts, by medians (Hintersdorf et al., NeurIPS 2024, arXiv:2406.02366)."""

from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring import nemo
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2406.02366", needs=("prompts", "an alignment"))
def median_alignment(
    comparison: Comparison, *, median: Literal["standard", "lower"] = "standard", resamples: int = 1000
) -> Measured:
    """How well images show the prompt asked for: median over a prompt's images, then median over prompts.

    In the unit of the alignment, for CLIP the cosine, not times 100. `alignment_median` and `alignment_mad` are the
    median over prompts and the median absolute deviation, of `vm` and `tm` prompts too where their kind is given;
    `median=lower` takes the lower of two middle values, as the released code does. Images without a number are left
    out, prompts without any are missing. The authors take CLIP ViT-B/32 and ten images. Intervals draw prompts anew.
    """
    members, aligned = nemo.members(comparison.groups), comparison.asked_alignment
    known = [of_prompt[~np.isnan(of_prompt)] for of_prompt in (aligned[places] for places in members)]
    values = [float(nemo.median_of(of_prompt, median)) if of_prompt.size else None for of_prompt in known]
    kinds = nemo.known_kinds([comparison.generated[places[0]].kind for places in members])
    named, seed = kinds if any(kinds) else None, comparison.seed
    summary = nemo.over_prompts(values, "alignment", kinds=named, median=median, resamples=resamples, seed=seed)
    return Measured({"median_alignment": nemo.spread_out(values, members)}, {"model": comparison.judge, **summary})
