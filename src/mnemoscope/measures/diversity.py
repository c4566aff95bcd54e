"""How alike the images of one prompt are (Hintersdorf et al., NeurIPS 2024, arXiv:2406.02366)."""

from typing import Literal

from mnemoscope import registry
from mnemoscope.measuring import nemo
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2406.02366", needs=("several images a prompt",))
def diversity(
    comparison: Comparison, *, median: Literal["standard", "lower"] = "standard", resamples: int = 1000
) -> Measured:
    """Median similarity of all pairs of a prompt's images; the lower, the more the seeds differ.

    In the descriptor's similarity. `pairs_median` and `pairs_mad` are the median over prompts and the median absolute
    deviation, of `vm` and `tm` prompts too where their kind is given; `median=lower` takes the lower of two middle
    values, as the released code does. Intervals draw prompts anew.
    """
    members = nemo.members(comparison.groups)
    values = [nemo.diversity(comparison.vectors[places], median=median) for places in members]
    kinds = nemo.known_kinds([comparison.generated[places[0]].kind for places in members])
    named, seed = kinds if any(kinds) else None, comparison.seed
    summary = nemo.over_prompts(values, "pairs", kinds=named, median=median, resamples=resamples, seed=seed)
    return Measured({"diversity": nemo.spread_out(values, members)}, summary)
