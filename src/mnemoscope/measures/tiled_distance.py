"""Pixel distance of the worst tile to training images (Carlini et al., USENIX Security 2023, arXiv:2301.13188)."""

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from mnemoscope import registry
from mnemoscope.measuring.bootstrap import Percentile, Share, estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.same_size import squashed
from mnemoscope.measuring.tiles import tiled_distance as tiled

KEPT = 64  # references in memory


@registry.measure(
    paper="arXiv:2301.13188", needs=("references", "reference images"), tells=("-tiled_distance", "extracted")
)
def tiled_distance(
    comparison: Comparison,
    *,
    below: int | float = 0.15,
    candidates: int = 1,
    tiles: int = 4,
    size: int = 512,
) -> Measured:
    """Distance of the pixels of an image to a reference, in the tile where it is largest; below 0.15 is extracted.

    Root mean square difference in [0, 1], black to white, of `tiles` by `tiles` tiles of images squashed to `size` by
    `size`. The smallest over the image's own references and the `candidates` that the descriptor finds nearest, so that
    it is an upper bound of that over all. `extracted` is strictly below `below`; intervals draw prompts anew.
    """

    @lru_cache(maxsize=KEPT)
    def pixels(position: int) -> UInt8[np.ndarray, "1 S S 3"]:
        image = comparison.references.image(position)
        return squashed([] if image is None else [image], size)

    keys, distances, matches = comparison.references.keys, [], []
    for k, generated in enumerate(comparison.generated):
        near = list(dict.fromkeys([*comparison.own[k], *comparison.nearest[1][k, :candidates].tolist()]))
        own = squashed([generated.picture.image()], size)
        apart = tiled(own, np.concatenate([pixels(position) for position in near]), tiles=tiles)[0]
        distances.append(float(apart.min()))
        matches.append(keys[near[int(apart.argmin())]])
    values, groups = np.array(distances), comparison.groups.tolist()
    summary = estimates({"median": Percentile(50)}, values, groups, seed=comparison.seed)
    extracted = (values < below).astype(np.float64)
    summary |= estimates({"extracted_rate": Share(0.5)}, extracted, groups, seed=comparison.seed)
    columns = {"tiled_distance": distances, "tiled_match": matches, "extracted": (values < below).tolist()}
    return Measured(columns, {"below": below, "tiles": tiles, "size": size} | summary)
