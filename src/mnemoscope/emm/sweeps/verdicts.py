"""What a sweep says of what was expected: as expected, the opposite, or not told apart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mnemoscope.emm.sweeps.differences import difference, mean_ratio, times
from mnemoscope.emm.sweeps.estimate import Point, emm
from mnemoscope.emm.sweeps.file import Expectation, Sweep
from mnemoscope.study.verdicts import AGREES, LACKING, OPEN, OPPOSITE


def verdict(asked: Sweep, expected: Expectation, points: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """The difference, or the value, that an expectation is about, with its interval and what that says of it.

    Of EMM the difference is that of logarithms. A sign is met where the whole interval lies on its side of 0, a range
    where it lies within.
    """
    against = None if expected.within else expected.against or asked.baseline
    said: dict[str, Any] = {"level": expected.level, "n": expected.n, "against": against, "sign": expected.sign}
    said |= {"margin": expected.margin, "within": expected.within, "source": expected.source}
    said |= {"measure": "ratio" if expected.n else "EMM", "value": None, "interval": None}
    found = _found(asked, expected, points, against)
    if found is None:
        return said | {"verdict": LACKING}
    value, ends = found
    shown = [end if math.isfinite(end) else None for end in ends]
    return said | {"value": value, "interval": shown, "verdict": _told(expected, *ends)}


def _found(
    asked: Sweep, expected: Expectation, points: Mapping[str, Sequence[Point]], against: str | None
) -> tuple[float | None, tuple[float, float]] | None:
    at = {name: [p for p in own if expected.n in (None, p.n)] for name, own in points.items()}
    own, base = at.get(expected.level, []), at.get(against or "", [])
    if not own or (against is not None and not base):
        return None
    if against is not None:
        if expected.n is not None:
            return difference(own, base, resamples=asked.resamples)
        found = times(own, base, eps=asked.eps, resamples=asked.resamples)
        return found and (math.log(found[0]), (math.log(found[1][0]), math.log(found[1][1])))
    if expected.n is not None:
        return mean_ratio(own, resamples=asked.resamples)
    whole = emm(own, eps=asked.eps, resamples=asked.resamples)
    low, high = whole.interval
    sizes = sorted(p.n for p in own)
    if whole.flag == "above grid":
        low = float(sizes[-1]) if low is None else low
    if whole.flag == "below grid":
        high = float(sizes[0]) if high is None else high
    return whole.value, (-math.inf if low is None else low, math.inf if high is None else high)


def _told(expected: Expectation, low: float, high: float) -> str:
    if expected.sign in ("+", "-"):
        sides = (low > 0, high < 0) if expected.sign == "+" else (high < 0, low > 0)
        return AGREES if sides[0] else OPPOSITE if sides[1] else OPEN
    least, most = expected.within or (-expected.margin, expected.margin)
    if least <= low and high <= most:
        return AGREES
    return OPPOSITE if high < least or most < low else OPEN
