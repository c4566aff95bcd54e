"""Similarity to the true images of a prompt, over its generations (Wen et al., ICLR 2024, arXiv:2407.21720)."""

from mnemoscope import registry
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.own import best_own
from mnemoscope.measuring.true_images import over_dataset, over_generations


@registry.measure(paper="arXiv:2407.21720", needs=("references", "own references"))
def true_images(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """Similarity to the best of a prompt's true images: mean, highest and lowest of its generations, over prompts.

    In the descriptor's similarity; `true_mean`, `true_max` and `true_min` are means over the `prompts` that have a true
    image, one whose caption is the prompt. They compare with published numbers of the same descriptor, preset and
    number of generations: the authors take four. Intervals draw prompts anew.
    """
    best, _ = best_own(comparison.own, comparison.own_similarity)
    found = over_generations(best, comparison.groups.tolist())
    return Measured(summary=over_dataset(list(found.values()), resamples=resamples, seed=comparison.seed))
