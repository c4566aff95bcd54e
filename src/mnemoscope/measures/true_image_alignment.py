"""Alignment of a prompt's true image with the prompt, beside that of its generations (Wen et al., arXiv:2407.21720)."""

from typing import Any

import numpy as np
from PIL import Image

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring import nemo
from mnemoscope.measuring.bootstrap import Estimates, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured


@registry.measure(paper="arXiv:2407.21720", needs=("prompts", "reference images", "own references", "an alignment"))
def true_image_alignment(comparison: Comparison, *, resamples: int = 1000) -> Measured:
    """How well the true image of a prompt shows it, and how well the generations do: what a mitigation may cost.

    In the unit of the alignment, for CLIP the cosine, not times 100, against the prompt asked for. `true_alignment` is
    the mean over the `prompts` that have a true image, one whose caption is the prompt; of several that which is most
    similar to the generation of the lowest seed, as the released code takes it. `generated_alignment` is the mean over
    the same prompts of the mean of their generations, `difference` that of generated minus true. Intervals draw
    prompts anew. The authors take OpenCLIP's ViT-g-14 and four generations.
    """
    members = nemo.members(comparison.groups)
    shown = [_true_image(comparison, places) for places in members]
    there = [k for k, position in enumerate(shown) if position is not None]
    pairs = ((_image(comparison, shown[k]), str(comparison.generated[members[k][0]].prompt)) for k in there)
    true = np.full(len(members), np.nan)
    true[there] = comparison.aligned(pairs)
    of_prompt = [comparison.asked_alignment[places] for places in members]
    generated = np.array([each.mean() if not np.isnan(each).any() else np.nan for each in of_prompt])
    column = nemo.spread_out([None if np.isnan(v) else float(v) for v in true], members)
    summary = {"model": comparison.judge, **_over_prompts(true, generated, resamples, comparison.seed)}
    return Measured({"true_image_alignment": column}, summary)


def _true_image(comparison: Comparison, places: Any) -> int | None:
    """Position of the true image nearest to a prompt's generation of the lowest seed."""
    seeds = {k: comparison.generated[k].seed for k in places.tolist()}
    first = min(seeds, key=lambda k: (seeds[k] is None, seeds[k] or 0, comparison.generated[k].picture.key))
    reference_places = comparison.own[first]
    return reference_places[int(np.argmax(comparison.own_similarity[first]))] if reference_places else None


def _image(comparison: Comparison, position: int | None) -> Image.Image:
    image = None if position is None else comparison.references.image(position)
    if image is None:
        raise UsageError("The true images are not there, only their vectors; give them as --references.")
    return image


def _over_prompts(true: np.ndarray, generated: np.ndarray, resamples: int, seed: int) -> Estimates:
    known = ~(np.isnan(true) | np.isnan(generated))
    sides = {"true_alignment": true, "generated_alignment": generated, "difference": generated - true}
    summary: Estimates = {"prompts": int(known.sum()), "missing": int((~known).sum())}
    for name, values in sides.items():
        if known.any():
            summary |= estimates({name: mean}, values[known], resamples=resamples, seed=seed)
        else:
            summary |= {name: None, f"{name}_interval": None}
    return summary
