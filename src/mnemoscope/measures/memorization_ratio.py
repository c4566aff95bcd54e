"""Nearest over second nearest training image (Yoon et al., ICML 2023 workshop; Gu et al., arXiv:2310.02664)."""

import math
from typing import Literal

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.memorization_ratio import Ratios, copies, memorized_share, nearest_features
from mnemoscope.measuring.memorization_ratio import memorization_ratio as ratio_of
from mnemoscope.measuring.same_size import squashed
from mnemoscope.search.nearest_pixels import nearest


@registry.measure(paper="arXiv:2310.02664", needs=("references",))
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
    found = _ratios(theirs[0], theirs[1], groups, threshold)
    control_found = _ratios(theirs[2], theirs[1], groups, threshold) if held else None
    said = memorized_share(found, comparison.groups.tolist(), control_found, comparison.seed)
    about = {"on": on, "size": size if on == "pixels" else None, "ratio_threshold": threshold, "references": total}
    keys = comparison.references.keys
    columns = {"ratio_match": [keys[k] for k in found.pop("match").tolist()]}
    columns |= {k if k.startswith("ratio") else f"ratio_{k}": v.tolist() for k, v in found.items()}
    return Measured(columns, about | {"distinct_references": int(groups.max()) + 1} | said)


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), math.prod(images.shape[1:]))


def _ratios(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, threshold: int | float) -> Ratios:
    if ours.dtype == np.uint8:
        return ratio_of(nearest(ours, theirs), nearest(ours, theirs, distinct=True), threshold=threshold)
    apart = nearest_features(ours, theirs, groups=groups)
    return ratio_of(nearest_features(ours, theirs), apart, threshold=threshold)
