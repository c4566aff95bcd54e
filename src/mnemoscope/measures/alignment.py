"""Whether images show what was asked for, by a model of images and texts (Hessel et al., arXiv:2104.08718)."""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, Percentile, estimates, mean
from mnemoscope.measuring.comparison import Comparison, Measured


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
    and clamp, which the summary names. The column `alignment_chance` is the same for another prompt of the images, or
    for any picture where the measure knows that: images that are no better aligned do not show their prompt.
    """
    aligned = comparison.asked_alignment if text == "original" else comparison.used_alignment
    groups, model = comparison.groups.tolist(), comparison.judge
    summary = clip_score(aligned, groups, model=model, text=text, scale=scale, clamp=clamp, seed=comparison.seed)
    chance = scale * np.where(np.isnan(aligned), np.nan, comparison.chance_alignment(text))
    chance = np.where(chance < 0, 0.0, chance) if clamp == "image" else chance
    summary["chance"] = None if np.isnan(chance).all() else float(np.nanmean(chance))
    return Measured({"alignment": summary.pop("values").tolist(), "alignment_chance": chance.tolist()}, summary)


Text = Literal["original", "used"]
Clamp = Literal["none", "image", "mean"]


def clip_score(
    cosines: Float[np.ndarray, " N"],
    prompts: Sequence[Hashable] | None = None,
    *,
    model: str,
    text: Text = "original",
    scale: Literal[1, 100] = 1,
    clamp: Clamp = "none",
    seed: int = 0,
) -> Estimates:
    """Cosine of image and text, per image and as mean and median with 95 % intervals, and what it was taken from.

    `values` holds `scale` times the cosine of each image, NaN where it has none, in [-scale, scale]. `text` says
    whether the text is what was asked for or what the model read, which a mitigation may have changed. `clamp` sets
    negative numbers to 0: those of each image, or that of the mean alone, as torchmetrics does. Scores compare only
    where model, text, scale and clamp are the same. `unknown` counts images without a number; with no other, mean and
    median are None. Raises UsageError for a number of prompts other than that of cosines, or an infinite cosine.
    """
    if prompts is not None and len(prompts) != len(cosines):
        raise UsageError(f"{len(prompts)} prompts were given for {len(cosines)} images; give one prompt for each.")
    values = scale * cosines.astype(np.float64)
    if clamp == "image":
        values = np.where(values < 0, 0.0, values)
    known = ~np.isnan(values)
    about = {"model": model, "text": text, "scale": scale, "clamp": clamp, "unknown": int((~known).sum())}
    names = ("mean", "median", "mean_interval", "median_interval")
    if not known.any():
        return about | {"values": values} | dict.fromkeys(names)
    groups = None if prompts is None else [p for p, there in zip(prompts, known, strict=True) if there]
    summary = estimates({"mean": mean, "median": Percentile(50)}, values[known], groups, seed=seed)
    if clamp == "mean":
        summary = {name: _positive(value) if name.startswith("mean") else value for name, value in summary.items()}
    return about | {"values": values} | summary


def _positive(value: float | list[float] | None) -> float | list[float] | None:
    if value is None:
        return None
    return [max(end, 0.0) for end in value] if isinstance(value, list) else max(value, 0.0)
