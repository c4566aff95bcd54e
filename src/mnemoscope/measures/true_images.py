"""Similarity to the true images of a prompt, over its generations (Wen et al., ICLR 2024, arXiv:2407.21720)."""

from collections.abc import Callable, Hashable, Sequence
from statistics import fmean

import numpy as np
from jaxtyping import Float, Int

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.own import best_own


@registry.measure(paper="arXiv:2407.21720", needs=("references", "own references"))
def true_images(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """Similarity to the best of a prompt's true images: mean, highest and lowest of its generations, over prompts.

    In the descriptor's similarity; `true_mean`, `true_max` and `true_min` are means over the `prompts` that have a true
    image, one whose caption is the prompt. They compare with published numbers of the same descriptor, preset and
    number of generations: the authors take four. Intervals draw prompts anew.
    """
    best, _ = best_own(comparison.own, comparison.own_similarity)
    by_prompt = over_generations(best, comparison.groups.tolist())
    return Measured(summary=over_dataset(list(by_prompt.values()), resamples=resamples, seed=comparison.seed))


OVER: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "max": max, "min": min}


def best_true(
    similarity: Float[np.ndarray, "true generated"],
) -> tuple[Float[np.ndarray, " generated"], Int[np.ndarray, " generated"]]:
    """Similarity of each generation of a prompt to its most similar true image, and which one that is.

    Of equally similar ones the first. Raises UsageError for no true image or no generation.
    """
    if not similarity.size:
        raise UsageError("A prompt needs a true image and a generation; its matrix of similarities is empty.")
    return similarity.max(axis=0), similarity.argmax(axis=0)


def over_generations(best: Float[np.ndarray, " N"], prompts: Sequence[Hashable]) -> dict[Hashable, dict[str, float]]:
    """Mean, maximum and minimum over the generations of each prompt, of their similarity to the best true image.

    In order of first appearance; prompts whose similarities are NaN, which have no true image, are left out. Raises
    UsageError for a number of prompts other than that of similarities.
    """
    if len(best) != len(prompts):
        raise UsageError(f"{len(prompts)} prompts were given for {len(best)} images; give one for each image.")
    members: dict[Hashable, list[float]] = {}
    for value, prompt in zip(best.tolist(), prompts, strict=True):
        if not np.isnan(value):
            members.setdefault(prompt, []).append(value)
    return {prompt: {name: over(values) for name, over in OVER.items()} for prompt, values in members.items()}


def over_dataset(by_prompt: Sequence[dict[str, float]], *, resamples: int = 1000, seed: int = 0) -> Estimates:
    """Mean over prompts of each of mean, maximum and minimum, with 95 % intervals over prompts.

    In the unit of the similarity. Wen et al., arXiv:2407.21720. Raises UsageError for no prompt.
    """
    summary: Estimates = {"prompts": len(by_prompt)}
    for name in OVER:
        values = np.array([of_prompt[name] for of_prompt in by_prompt], dtype=np.float64)
        summary |= estimates({f"true_{name}": mean}, values, resamples=resamples, seed=seed)
    return summary
