"""Values as a reader meets them: numbers, counts, rates, and texts that cannot steer what shows them."""

import math
from typing import Any


def counted(n: int, noun: str, nouns: str = "") -> str:
    """A number with its noun, in the plural if need be, which ends in s or is given: 1 prompt, 2 prompts."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def number(value: object) -> float | None:
    """The value as a finite number, or None for anything that is not one."""
    try:
        if not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def shown(value: object, form: str = "{:.4g}") -> str:
    """A number in a form, or a dash for anything that is not one."""
    return "–" if (found := number(value)) is None else form.format(found)


def percent(value: object) -> Any:
    """A share, or a list of shares, in percent; None for anything that is not a number."""
    if isinstance(value, list):
        return [percent(each) for each in value]
    return None if (share := number(value)) is None else 100 * share


def ends(value: object) -> tuple[float, float] | None:
    """An interval as its two ends, or None for anything that is not one."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = map(number, value)
    return None if low is None or high is None else (low, high)


def interval(value: object, form: str = "{:.2f}", unit: str = "") -> str:
    """An interval in words, its ends in a form."""
    if (found := ends(value)) is None:
        return "no interval was recorded"
    if found[0] == found[1]:
        return "no interval: all values are alike"
    return f"95 % interval {form.format(found[0])} to {form.format(found[1])}{unit}"
