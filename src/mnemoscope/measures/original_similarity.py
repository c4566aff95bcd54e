"""Similarity to the originals of a prompt (Hintersdorf et al., NeurIPS 2024, arXiv:2406.02366)."""

from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring import nemo
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2406.02366", needs=("references", "own references"))
def original_similarity(
    comparison: Comparison,
    *,
    verbatim: int | float = nemo.VERBATIM,
    median: Literal["standard", "lower"] = "standard",
    compat: Literal["nemo"] | None = None,
    resamples: int = 1000,
) -> Measured:
    """Similarity to a prompt's originals, median over these; the highest and the median of its generations.

    In the descriptor's similarity. `originals_max` and `originals_median` each give a median over prompts and a median
    absolute deviation; `originals_distance` does so of the least and the median Euclidean distance. Prompts are split
    into verbatim (`vm`) and template memorized (`tm`) by their given kind, or else by whether the highest similarity is
    above `verbatim`, which tells something only of images without mitigation. `compat=nemo` leaves out the last prompt,
    as the released code does. Intervals draw prompts anew.
    """
    members = nemo.members(comparison.groups)
    whole = [np.stack([comparison.own_similarity[k] for k in places.tolist()], axis=1) for places in members]
    near = [nemo.to_originals(of_prompt, median=median) if of_prompt.size else None for of_prompt in whole]
    best = [of_prompt["max"] if of_prompt else None for of_prompt in near]
    given = nemo.known_kinds([comparison.generated[places[0]].kind for places in members])
    kinds = given if any(given) else nemo.kinds_of(best, threshold=verbatim)
    far = [
        nemo.to_originals(nemo.distances(of_prompt), median=median) if of_prompt.size else None for of_prompt in whole
    ]
    summary: Estimates = {"split_by": "kind" if any(given) else "similarity"}
    for name, side, key in (
        ("originals_max", near, "max"),
        ("originals_median", near, "median"),
        ("originals_distance_min", far, "min"),
        ("originals_distance_median", far, "median"),
    ):
        values = [of_prompt[key] if of_prompt else None for of_prompt in side]
        drawn = {"resamples": resamples, "seed": comparison.seed}
        summary |= nemo.over_prompts(values, name, kinds=kinds, median=median, compat=compat, **drawn)
    return Measured({"memorization_type": nemo.spread_out(kinds, members)}, summary)
