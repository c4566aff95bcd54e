"""Nearest over second nearest training image (Yoon et al., ICML 2023 workshop; Gu et al., arXiv:2310.02664)."""

import math
from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.memorization_ratio import copies, memorized_share, ratios_between
from mnemoscope.measuring.same_size import squashed


@registry.measure(paper="arXiv:2310.02664", needs=("references",), tells=("-ratio", "ratio_memorized"))
def memorization_ratio(
    comparison: Comparison,
    *,
    on: Literal["pixels", "features"] = "pixels",
    size: int = 32,
    threshold: int | float = 1 / 3,
) -> Measured:
    """Distance to the nearest reference over that to the second nearest; an image below a third is a copy.

    In [0, 1], Euclidean, of 8-bit pixels with all images squashed to `size` by `size`, or of the descriptor's vectors.
    `ratio` misses copies of references that lie there twice; `ratio_apart` merges equal ones, as do `rate` and
    `rate_apart`. `floor` is the share of --held-out images below the threshold, which the model never saw. Compares
    only at equal sizes or features and one number of references.
    """
    total = len(comparison.references.keys)
    theirs: list[np.ndarray]
    if on == "pixels" and "reference images" not in comparison.known:
        return Measured(notes=["The references are known by their vectors alone; take the ratio with on=features."])
    held = [picture.image() for picture in comparison.held_out]
    if on == "pixels":
        images = (image for k in range(total) if (image := comparison.references.image(k)) is not None)
        ours = (g.picture.image() for g in comparison.generated)
        theirs = [_rows(squashed(side, size)) for side in (ours, images, held)]
    else:
        control = comparison.descriptor(held) if held else comparison.vectors[:0]
        theirs = [comparison.vectors, comparison.reference_vectors, control]
    groups = copies(theirs[1])
    if groups.max() < 1:
        return Measured(notes=["A ratio needs two references that are no copies of each other; give more."])
    ratios = ratios_between(theirs[0], theirs[1], groups, threshold)
    of_held = ratios_between(theirs[2], theirs[1], groups, threshold) if held else None
    shares = memorized_share(ratios, comparison.groups.tolist(), of_held, comparison.seed)
    about = {"on": on, "size": size if on == "pixels" else None, "ratio_threshold": threshold, "references": total}
    keys = comparison.references.keys
    columns = {"ratio_match": [keys[k] for k in ratios.pop("match").tolist()]}
    columns |= {k if k.startswith("ratio") else f"ratio_{k}": v.tolist() for k, v in ratios.items()}
    return Measured(columns, about | {"distinct_references": int(groups.max()) + 1} | shares)


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), math.prod(images.shape[1:]))
