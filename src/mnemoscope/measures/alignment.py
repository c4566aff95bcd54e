"""Whether images show what was asked for, by a model of images and texts (Hessel et al., arXiv:2104.08718)."""

from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.clip_score import clip_score
from mnemoscope.measuring.comparison import Comparison, Measured

TOGETHER = 32  # images in memory


@registry.measure(paper="arXiv:2104.08718", needs=("prompts", "an alignment"))
def alignment(
    comparison: Comparison,
    *,
    text: Literal["original", "used"] = "original",
    scale: Literal[1, 100] = 1,
    clamp: Literal["none", "image", "mean"] = "none",
) -> Measured:
    """How well images show what their prompt asks for: CLIP's cosine, or what else the alignment measures.

    `scale` times the cosine, in [-scale, scale], higher = better; per image, and as mean and median with intervals over
    prompts. `text` is the prompt asked for, or the one that the model read, which a mitigation may have changed.
    `clamp` sets negative numbers to 0, those of each image or that of the mean. Compares only at one model, text, scale
    and clamp, which the summary names.
    """
    if comparison.aligner is None:
        raise UsageError("There is nothing to measure alignment with; give --alignment.")
    rows = comparison.generated
    texts = [str(g.prompt if text == "original" or g.used is None else g.used) for g in rows]
    found = [np.empty(0)]
    for start in range(0, len(rows), TOGETHER):
        part = slice(start, start + TOGETHER)
        found.append(comparison.aligner.align([g.picture.image() for g in rows[part]], texts[part]))
    groups, model = comparison.groups.tolist(), comparison.aligner.name
    said = clip_score(
        np.concatenate(found), groups, model=model, text=text, scale=scale, clamp=clamp, seed=comparison.seed
    )
    return Measured({"alignment": said.pop("values").tolist()}, said)
