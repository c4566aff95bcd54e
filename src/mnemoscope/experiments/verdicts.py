"""What an experiment says of what was expected: as expected, the opposite, or not told apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnemoscope.experiments.experiment import ArmExpectation
from mnemoscope.study.verdicts import LACKING, OPEN, by_sign

ITSELF = ("entropy_r", "jpeg_r", "dose_response")  # measures whose own sign is expected


def verdict(expected: ArmExpectation, table: Sequence[Mapping[str, Any]], baseline: str) -> dict[str, Any]:
    """The difference, or the value where its own sign is meant, with its interval and what it says.

    An interval that holds 0, or that is of no width, tells nothing apart. An expectation against another arm than the
    table's baseline needs a table of that one.
    """
    group = expected.group
    entry = next((e for e in table if _is_it(e, expected, group)), None)
    if entry is None and group == "all":  # a table of a single group has no row of all
        entry = next((e for e in table if _is_it(e, expected, str(e["group"]))), None)
    key = ("value", "interval") if expected.measure in ITSELF else ("difference", "difference_interval")
    row = {"arm": expected.arm, "against": None if key[0] == "value" else expected.against or baseline}
    row |= {"measure": expected.measure, "group": group, "sign": expected.sign, "source": expected.source}
    if entry is None or entry[key[0]] is None or entry[key[1]] is None:
        return row | {"difference": None, "interval": None, "verdict": LACKING}
    low, high = entry[key[1]]
    told = OPEN if low == high else by_sign(expected.sign, low, high)
    return row | {"difference": entry[key[0]], "interval": [low, high], "verdict": told}


def _is_it(entry: Mapping[str, Any], expected: ArmExpectation, group: str) -> bool:
    return (entry["arm"], entry["measure"], entry["group"]) == (expected.arm, expected.measure, group)
