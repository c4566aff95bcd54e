"""What a sweep says of what was expected: as expected, the opposite, or not told apart."""

import math
from collections.abc import Mapping, Sequence

from mnemoscope.emm.sweeps.differences import difference, mean_ratio, times
from mnemoscope.emm.sweeps.estimate import RatioPoint, emm
from mnemoscope.emm.sweeps.file import Expectation, Sweep
from mnemoscope.run.reading import Json
from mnemoscope.study.verdicts import AGREES, LACKING, OPEN, OPPOSITE, by_sign


def verdict(asked: Sweep, expected: Expectation, points: Mapping[str, Sequence[RatioPoint]]) -> Json:
    """The difference, or the value, that an expectation is about, with its interval and what that says of it.

    Of EMM the difference is that of logarithms. A sign is met where the whole interval lies on its side of 0, a range
    where it lies within.
    """
    against = None if expected.within else expected.against or asked.baseline
    entry: Json = {"level": expected.level, "n": expected.n, "against": against, "sign": expected.sign}
    entry |= {"margin": expected.margin, "within": expected.within, "source": expected.source}
    entry |= {"measure": "ratio" if expected.n else "EMM", "value": None, "interval": None}
    estimate = _found(asked, expected, points, against)
    if estimate is None:
        return entry | {"verdict": LACKING}
    value, ends = estimate
    shown = [end if math.isfinite(end) else None for end in ends]
    return entry | {"value": value, "interval": shown, "verdict": _told(expected, *ends)}


def _found(
    asked: Sweep, expected: Expectation, points: Mapping[str, Sequence[RatioPoint]], against: str | None
) -> tuple[float | None, tuple[float, float]] | None:
    at = {name: [p for p in changed if expected.n in (None, p.n)] for name, changed in points.items()}
    changed, base = at.get(expected.level, []), at.get(against or "", [])
    if not changed or (against is not None and not base):
        return None
    if against is not None:
        if expected.n is not None:
            return difference(changed, base, resamples=asked.resamples)
        quotient = times(changed, base, eps=asked.eps, resamples=asked.resamples)
        return quotient and (math.log(quotient[0]), (math.log(quotient[1][0]), math.log(quotient[1][1])))
    if expected.n is not None:
        return mean_ratio(changed, resamples=asked.resamples)
    whole = emm(changed, eps=asked.eps, resamples=asked.resamples)
    low, high = whole.interval
    sizes = sorted(p.n for p in changed)
    if whole.flag == "above grid":
        low = float(sizes[-1]) if low is None else low
    if whole.flag == "below grid":
        high = float(sizes[0]) if high is None else high
    return whole.value, (-math.inf if low is None else low, math.inf if high is None else high)


def _told(expected: Expectation, low: float, high: float) -> str:
    if expected.sign in ("+", "-"):
        return by_sign(expected.sign, low, high)
    least, most = expected.within or (-expected.margin, expected.margin)
    if least <= low and high <= most:
        return AGREES
    return OPPOSITE if high < least or most < low else OPEN
