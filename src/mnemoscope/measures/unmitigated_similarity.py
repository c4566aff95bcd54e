"""Similarity to the image of the same seed without mitigation (Hintersdorf et al., arXiv:2406.02366)."""

from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring import nemo
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2406.02366", needs=("unmitigated images",))
def unmitigated_similarity(
    comparison: Comparison, *, median: Literal["standard", "lower"] = "standard", resamples: int = 1000
) -> Measured:
    """How similar each mitigated image is to that of the same seed without mitigation: the lower, the more it changed.

    In the descriptor's similarity. Median over a prompt's images, then `unmitigated_median` over prompts with the
    median absolute deviation `unmitigated_mad`, of `vm` and `tm` prompts too where their kind is given; `median=lower`
    takes the lower of two middle values, as the released code does. Intervals draw prompts anew.
    """
    plain = comparison.baseline_vectors
    if plain is None:
        raise UsageError("The images without mitigation are not there; give them as --unmitigated.")
    members = nemo.members(comparison.groups)
    values = [nemo.to_unmitigated(comparison.vectors[p], plain[p], median=median) for p in members]
    kinds = nemo.known_kinds([comparison.generated[places[0]].kind for places in members])
    named, seed = kinds if any(kinds) else None, comparison.seed
    summary = nemo.over_prompts(values, "unmitigated", kinds=named, median=median, resamples=resamples, seed=seed)
    similarity = np.einsum("nd,nd->n", comparison.vectors, plain)
    return Measured({"unmitigated_similarity": similarity.tolist()}, summary)
