"""Whether the images of a prompt agree whatever the seed, which needs no training image to compare with."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import estimates, mean


def seed_agreement(
    vectors: Float[np.ndarray, "N D"], prompts: Sequence[Hashable], *, threshold: int | float
) -> list[dict[str, Any]]:
    """Mean similarity of the pairs of images of each prompt, and the share of images that agree with another one.

    Prompts come in order of first appearance, each with `places`, the rows of its images. `agreement` is the mean inner
    product over pairs of different images, in [-1, 1] for unit vectors; higher means that the prompt gives the same
    image again and again, as memorized prompts do, and as prompts do that leave nothing open. `agreeing` is the share
    of images with a similarity strictly above `threshold` to another one of the prompt, in [0, 1]. Both are NaN for a
    single image. Raises UsageError for a number of prompts other than that of vectors.
    """
    if len(prompts) != len(vectors):
        raise UsageError(f"{len(prompts)} prompts were given for {len(vectors)} vectors; give one prompt for each.")
    members: dict[Hashable, list[int]] = {}
    for place, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append(place)
    return [{"prompt": p, "places": at, **_agreement(vectors[at], threshold)} for p, at in members.items()]


def agreement_summary(rows: Sequence[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Means over prompts of what `seed_agreement` says, with 95 % intervals; None if no prompt has two images."""
    known = [row for row in rows if len(row["places"]) > 1]
    found: dict[str, Any] = {"prompts": len(known), "single": len(rows) - len(known)}
    for name in ("agreement", "agreeing"):
        if known:
            found |= estimates({name: mean}, np.array([row[name] for row in known]), seed=seed)
        else:
            found |= {name: None, f"{name}_interval": None}
    return found


def _agreement(vectors: Float[np.ndarray, "S D"], threshold: int | float) -> dict[str, float]:
    if len(vectors) < 2:
        return {"agreement": float("nan"), "agreeing": float("nan")}
    exact = vectors.astype(np.float64)
    similarity = exact @ exact.T
    np.fill_diagonal(similarity, -np.inf)
    pairs = similarity[np.triu_indices(len(vectors), 1)]
    return {"agreement": float(pairs.mean()), "agreeing": float((similarity.max(axis=1) > threshold).mean())}
