"""Where along the doses half is reached."""

import math
from collections.abc import Sequence

from mnemoscope.stats.isotonic import falling

HALF = 0.5


def at_half(doses: Sequence[int | float], shares: Sequence[int | float], counts: Sequence[int]) -> float:
    """The number of views from which on half is reached: of shares made rising, interpolated over the doses' logarithm.

    In views. The lowest dose where half is reached there already, infinity where it is reached at none.
    Shares that fall are pooled with their neighbours, weighted by their counts (isotonic least squares).
    """
    rising = falling(shares[::-1], counts[::-1])[::-1].tolist()
    reached = next((k for k, share in enumerate(rising) if share >= HALF), None)
    if reached is None:
        return math.inf
    if reached == 0:
        return float(doses[0])
    low, high = rising[reached - 1], rising[reached]
    part = (HALF - low) / (high - low)
    return float(doses[reached - 1] * (doses[reached] / doses[reached - 1]) ** part)


def said(dose: int | float, doses: Sequence[int | float]) -> str:
    """A dose at half in words: outside of the doses that were trained only its side is known."""
    if dose > doses[-1]:
        return f"> {doses[-1]:,.0f}"
    return f"<= {doses[0]:,.0f}" if dose <= doses[0] else f"{dose:,.0f}"
