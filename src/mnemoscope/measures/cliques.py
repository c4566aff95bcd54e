"""Prompts whose images are copies of one another (Carlini et al., USENIX Security 2023, arXiv:2301.13188)."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int

from mnemoscope import registry
from mnemoscope.measuring.cliques import in_largest, largest_clique
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.nemo import members
from mnemoscope.measuring.same_size import squashed
from mnemoscope.measuring.tiles import tiled_distance
from mnemoscope.stats import wilson_interval


@registry.measure(paper="arXiv:2301.13188", needs=("several images a prompt",))
def cliques(
    comparison: Comparison,
    *,
    on: Literal["pixels", "features"] = "pixels",
    below: int | float = 0.15,
    least: int = 10,
    tiles: int = 4,
    size: int = 512,
) -> Measured:
    """The most images of a prompt that are all alike, which needs no training image; ten of 500 are a sign.

    Images are alike where their tiled distance is strictly below `below`, of images squashed to `size` by `size`; with
    `on=features`, where their similarity is strictly above the comparison's threshold. `rate` is the share of prompts
    with a clique of `least` images, among prompts with so many, with Wilson's interval. The number of images of a
    prompt decides what can be found: compare only at an equal one.
    """
    sizes, inside, inexact = np.zeros(len(comparison.generated), int), np.zeros(len(comparison.generated), bool), 0
    largest, able = [], []
    for places in members(comparison.groups):
        joined = _near(comparison, places, below, tiles, size) if on == "pixels" else _alike(comparison, places)
        clique = largest_clique(joined)
        inexact += not clique.is_largest
        sizes[places], inside[places] = len(clique.members), in_largest(joined, clique)
        largest.append(len(clique.members))
        able += [len(clique.members) >= least] if len(places) >= least else []
    found: dict[str, Any] = {
        "on": on,
        "least": least,
        "prompts": len(able),
        "largest": max(largest),
        "passed": sum(able),
    }
    found |= {"rate": sum(able) / len(able) if able else None}
    found["rate_interval"] = list(wilson_interval(sum(able), len(able))) if able else None
    notes = [] if able else [f"No prompt has {least} images, so that none can have a clique of {least}; draw more."]
    if inexact:
        notes.append(f"The search stopped early for {inexact} prompts: their cliques may be larger.")
    return Measured({"clique": sizes.tolist(), "in_clique": inside.tolist()}, found, notes=notes)


def _near(
    comparison: Comparison, places: Int[np.ndarray, " S"], below: int | float, tiles: int, size: int
) -> Bool[np.ndarray, "S S"]:
    pixels = squashed((comparison.generated[k].picture.image() for k in places.tolist()), size)
    return tiled_distance(pixels, pixels, tiles=tiles) < below


def _alike(comparison: Comparison, places: Int[np.ndarray, " S"]) -> Bool[np.ndarray, "S S"]:
    vectors = comparison.vectors[places].astype(np.float64)
    return vectors @ vectors.T > comparison.threshold
