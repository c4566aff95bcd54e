"""Numbers as people give them, with the unit of the text's push where they are in one: 1.5, 1.5:eps, 40:x0."""

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.model.predictor import Predictor
from mnemoscope.model.schedule import Units
from mnemoscope.registry import Score

UNITS = get_args(Units)


@dataclass(frozen=True)
class Amount:
    """A finite number and its unit, None where none was said."""

    value: float
    units: Units | None = None

    @classmethod
    def of(cls, given: Any, what: str, units: str | None = None) -> "Amount":
        """NUMBER[:eps|:x0], or an amount as it is; `units` says the unit apart. Raises `UsageError` for all else."""
        if isinstance(given, Amount):
            return given
        number, colon, said = str(given).partition(":")
        try:
            value = math.nan if isinstance(given, bool) else float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (colon and said not in UNITS) or (units or UNITS[0]) not in UNITS:
            raise UsageError(f"{what} was '{given}'; give a number, with a unit where it needs one: 1.5:eps or 40:x0.")
        if said and units and said != units:
            raise UsageError(f"{what} was '{given}', and units={units}; give one unit.")
        return cls(value, said or units)  # type: ignore[arg-type]

    def settled(self, units: Units, what: str, instead: str | None = None) -> "Amount":
        """With the unit of the model's schedule where none was said; raises `UsageError` where that is not eps.

        `instead` is what to give then, if it is not the number with its unit.
        """
        if self.units is None and units == "x0":
            raise UsageError(
                f"{what} {self.value:g} has no unit, and this model's push is in x0, as its noise schedule begins at "
                f"pure noise; give {instead or f'{self.value:g}:x0'}, or calibrate one on ordinary prompts."
            )
        return Amount(self.value, self.units or units)


def is_number(text: str) -> bool:
    """Whether a text is meant as a number, with or without a unit, known or not, rather than as a file."""
    number, _, units = text.partition(":")
    try:
        float(number)
    except ValueError:
        return False
    return not units or units in UNITS or not os.path.exists(number)


def aimed(score: Score, target: Any, model: Predictor) -> tuple[Any, float | None]:
    """A score's function and its target in one unit; raises `UsageError` for a unit that is lacking or has no meaning.

    A score that is not in units of the push has none to give, and neither has a function of one's own.
    """
    function = registry.scoring(score)
    if target is None:
        return function, None
    amount = Amount.of(target, "target")
    method = registry.about(function)
    if method is None or not method.units:
        if amount.units:
            name = "this score" if method is None else method.name
            raise UsageError(f"The target was given in {amount.units}, and {name} has no such unit; give a number.")
        return function, amount.value
    units_given = function.keywords.get("units") if isinstance(function, partial) else None
    settled = amount if units_given else amount.settled(model.units, "The target")
    if units_given and amount.units not in (None, units_given):
        raise UsageError(f"The target is in {amount.units}, and the score in {units_given}; give one unit.")
    if units_given or settled.units == model.units:
        return function, amount.value
    if "units" not in method.parameters:
        raise UsageError(f"{method.name} is in {model.units} for this model; give the target in it.")
    return partial(function, units=settled.units), amount.value
