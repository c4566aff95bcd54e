"""Frechet distance that is worse for copies, MiFID for Inception's features (Bai et al., arXiv:2106.03062)."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.distances import ROWS, two_sets
from mnemoscope.measuring.feature_sets import feature_sets
from mnemoscope.measuring.frechet import frechet_distance


@registry.measure(paper="arXiv:2106.03062", needs=("references",))
def memorization_informed_distance(
    comparison: Comparison,
    *,
    threshold: int | float = 0.1,
    over: Literal["generated", "reference"] = "generated",
    most: int = 10000,
) -> Measured:
    """Frechet distance over the mean cosine distance of images to their nearest reference, if that is small.

    From 0 upwards, lower = better; None for copies alone, where it is infinite. `penalty` is 1 from `threshold` on;
    `over=reference` takes the mean over references, as torchmetrics does. Features are those of --network if there is
    one and of the descriptor if not; `most` images of a side at most are drawn at random. Compares only at equal
    features, thresholds and numbers of images, and has no interval.
    """
    sets = feature_sets(comparison, most)
    if isinstance(sets, Measured):
        return sets
    ours, theirs = sets.generated, sets.reference
    summary = penalised_distance(ours, theirs, threshold=threshold, over=over)
    notes = [*sets.notes, *summary.pop("notes")]
    if math.isinf(summary["distance"]):
        summary["distance"] = None
        notes.append("All that is averaged are copies: the memorization-informed distance is infinite.")
    return Measured(summary=sets.about | {"threshold": threshold, "over": over} | summary, notes=notes)


ROUNDING = 1e-12  # a mean distance below it is that of copies


def penalised_distance(
    generated: Float[np.ndarray, "N D"],
    reference: Float[np.ndarray, "M E"],
    *,
    threshold: int | float = 0.1,
    over: Literal["generated", "reference"] = "generated",
) -> Estimates:
    """Frechet distance over the mean cosine distance to the nearest reference, where that is below a threshold.

    From 0 upwards, lower is better. `penalty` is the mean over generated vectors of 1 - |cosine| to the nearest
    reference, or 1 from `threshold` on; `over="reference"` takes the mean over references of that to the nearest
    generated vector, as torchmetrics does. Infinite for copies alone. Compares only at equal features, thresholds and
    numbers of vectors. Raises UsageError for a threshold outside (0, 1], all-zero vectors alone, and as
    `frechet_distance` does. Bai et al., arXiv:2106.03062.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g} was given; give a number above 0 and up to 1.")
    two_sets(generated, reference)
    sides = (generated, reference) if over == "generated" else (reference, generated)
    cosine = float(nearest_cosine_distance(*sides).mean())
    penalty = cosine if cosine < threshold else 1.0
    frechet = frechet_distance(generated, reference)
    value = frechet["distance"] / penalty if penalty > ROUNDING else math.inf
    return {"distance": value, "frechet": frechet["distance"], "penalty": penalty, "cosine_distance": cosine} | {
        "notes": frechet["notes"]
    }


def nearest_cosine_distance(a: Float[np.ndarray, "N D"], b: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " N"]:
    """1 - |cosine| of each row of `a` to the row of `b` where it is smallest, in [0, 1]; rows of zeros are left out."""
    x, y = _unit(a), _unit(b)
    if not len(x) or not len(y):
        raise UsageError("All vectors of a set are zero and have no cosine; give others.")
    nearest = [np.abs(x[start : start + ROWS] @ y.T).max(axis=1) for start in range(0, len(x), ROWS)]
    return np.clip(1 - np.concatenate(nearest), 0, 1)


def _unit(rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "K D"]:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return rows[lengths > 0] / lengths[lengths > 0, None]
