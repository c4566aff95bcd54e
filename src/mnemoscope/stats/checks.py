"""What scores and rates have to be, before anything is computed of them."""

import math

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError


def require_share(name: str, value: float) -> None:
    """Raise `UsageError` for what is no share of a whole."""
    if not 0 < value < 1:
        raise UsageError(f"{name} {value:g} was given; give a number between 0 and 1, both excluded.")


def require_negatives(quantity: str, fpr: float, given: int) -> None:
    """Raise `UsageError` for too few negatives to tell a quantity at a rate of false alarms."""
    require_share("fpr", fpr)
    if given < (needed := math.ceil(round(1 / fpr, 6))):
        raise UsageError(f"{quantity} at {100 * fpr:g}% FPR needs at least {needed} negatives; {given} were given.")


def require_scores(at_least: int = 1, **groups: Float[np.ndarray, "..."]) -> None:
    """Raise `UsageError` for groups of too few scores, or with one that is no finite number."""
    for name, scores in groups.items():
        if scores.size < at_least:
            raise UsageError(f"No {name} scores were given; give at least one.")
        if bad := int(np.count_nonzero(~np.isfinite(scores))):
            raise UsageError(f"{bad} of {scores.size} {name} scores are NaN or infinite; give finite scores only.")
