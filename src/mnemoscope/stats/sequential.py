"""Value after value of a prompt, only until it is clear on which side of a threshold the mean of all would lie."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError

FEWEST_PILOTS = 9  # prompts of which all values are known, for the quantile to be right
Values = Sequence[int | float]  # of the first seeds of a prompt, in their order


def student_quantile(share: int | float, freedom: int) -> float:
    """Quantile of Student's t: what a value of so many degrees of freedom stays below with that probability.

    Its expansion in 1 / freedom to the third order, within 0.2 % of the true one from 8 degrees of freedom and
    probabilities up to 0.999 on. Abramowitz and Stegun, 26.7.5.
    """
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


@dataclass(frozen=True)
class Stopping:
    """How far from a threshold the mean of the first k of K values must lie to be taken for the mean of all of them.

    `shifts` and `margins` have an entry for each k below K, in the score's unit: by how much the mean of the first k
    values lies above that of all on average, and how much further apart the two are with less than the error.
    """

    shifts: tuple[float, ...]
    margins: tuple[float, ...]

    @classmethod
    def of(cls, pilot: Float[np.ndarray, "P K"], error: int | float) -> "Stopping":
        """From all K values of P prompts: prediction limits of Student's t, the error shared among the K - 1 looks.

        For normal differences between the mean of k values and that of all, which are then independent of the mean of
        all, a new prompt that all K values would flag is cleared before the last of them with a probability of at most
        `error`, and likewise one that they would clear is flagged; whatever its own level. From an error of (K - 1) / 2
        on there are no margins. Raises `UsageError` for fewer than 9 prompts or 2 values.
        """
        prompts, looks = len(pilot), pilot.shape[1] - 1
        if prompts < FEWEST_PILOTS or looks < 1:
            raise UsageError(
                f"{prompts} prompts of {looks + 1} seeds were given to stop by; give {FEWEST_PILOTS} of 2 at least."
            )
        means = np.cumsum(pilot, axis=1) / np.arange(1, looks + 2)
        gaps = means[:, :-1] - means[:, -1:]
        apart = (
            student_quantile(1 - min(error / looks, 0.5), prompts - 1)
            * math.sqrt(1 + 1 / prompts)
            * gaps.std(0, ddof=1)
        )
        return cls(tuple(gaps.mean(0).tolist()), tuple(np.maximum(apart, 0).tolist()))

    @property
    def most(self) -> int:
        """K, the number of values at which there is nothing left to wait for."""
        return len(self.margins) + 1

    def estimates(self, values: Values) -> list[tuple[float, float]]:
        """What each look takes for the mean of all K values, and how far that may be off."""
        known = zip(values, (*self.shifts, 0.0), (*self.margins, 0.0), strict=False)
        total, found = 0.0, []
        for count, (value, shift, margin) in enumerate(known, 1):
            total += value
            found.append((total / count - shift, margin))
        return found

    def looked(self, values: Values, threshold: int | float) -> int | None:
        """After how many values it is clear on which side of the threshold they lie; None if more are needed."""
        for count, (estimate, margin) in enumerate(self.estimates(values), 1):
            if estimate - margin >= threshold or estimate + margin < threshold or count == self.most:
                return count
        return None

    def turning(self, values: Values) -> tuple[float, float]:
        """Between which thresholds the flag turns: raised at or below the first, not above the second.

        Thresholds that flag are nested: max over k of min(E_k - m_k, min over j < k of E_j + m_j) is the highest.
        After all K values the two are one number, the score by which an unstopped test would decide alike.
        """
        low, ceiling = -math.inf, math.inf
        for estimate, margin in self.estimates(values):
            low = max(low, min(estimate - margin, ceiling))
            ceiling = min(ceiling, estimate + margin)
        return low, low if len(values) >= self.most else max(low, ceiling)


def open_to(stopping: Stopping, ordinary: Mapping[str, Values], allowed: int) -> tuple[list[str], float, float]:
    """Ordinary prompts on which it still depends which threshold flags at most `allowed` of them, and its bounds.

    None are left where the bounds are one number: it is then the one that all K values of all of them would give.
    """
    turns = {name: stopping.turning(values) for name, values in ordinary.items()}
    low, high = (sorted(ends, reverse=True)[allowed] for ends in zip(*turns.values(), strict=True))
    return [name for name, (a, b) in turns.items() if a < b and b >= low and a <= high], low, high


def undecided(stopping: Stopping, prompts: Mapping[str, Values], low: int | float, high: int | float) -> list[str]:
    """Prompts that need a further value for some threshold between two."""

    def clear(values: Values) -> bool:
        a, b = stopping.turning(values)
        return a >= b or a > high or b < low

    return [name for name, values in prompts.items() if not clear(values)]


def affordable(
    pilot: Float[np.ndarray, "P K"],
    error: int | float,
    ordinary: Mapping[str, Values],
    prompts: Mapping[str, Values],
    allowed: int,
    room: int | float,
) -> float:
    """The lowest error, `error` at least, at which all further values certainly number at most `room`.

    At most (K - 1) / 2, where no prompt needs a further value.
    """
    most = pilot.shape[1]

    def needed(at: float) -> int:
        stopping = Stopping.of(pilot, at)
        waiting, low, high = open_to(stopping, ordinary, allowed)
        further = {**ordinary, **prompts}
        return sum(most - len(further[n]) for n in (*waiting, *undecided(stopping, prompts, low, high)))

    return _first_fitting(needed, error, (most - 1) / 2, room)


def _first_fitting(needed: Callable[[float], int], low: float, high: float, room: int | float) -> float:
    if needed(low) <= room:
        return low
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= room else (middle, high)
    return high
