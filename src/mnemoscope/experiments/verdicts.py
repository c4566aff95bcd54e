"""What an experiment says of what was expected: as expected, the opposite, or not told apart."""

from collections.abc import Sequence

from mnemoscope.experiments.effects import Effect
from mnemoscope.experiments.experiment import ArmExpectation
from mnemoscope.run.reading import Json
from mnemoscope.study.verdicts import LACKING, OPEN, by_sign

ITSELF = ("entropy_r", "jpeg_r", "dose_response")  # measures whose own sign is expected


def verdict(expected: ArmExpectation, table: Sequence[Effect], baseline: str) -> Json:
    """The difference, or the value where its own sign is meant, with its interval and what it says.

    An interval that holds 0, or that is of no width, tells nothing apart. An expectation against another arm than the
    table's baseline needs a table of that one.
    """
    group = expected.group
    entry = next((e for e in table if _is_it(e, expected, group)), None)
    if entry is None and group == "all":  # a table of a single group has no row of all
        entry = next((e for e in table if _is_it(e, expected, str(e["group"]))), None)
    is_itself = expected.measure in ITSELF
    row: Json = {"arm": expected.arm, "against": None if is_itself else expected.against or baseline}
    row |= {"measure": expected.measure, "group": group, "sign": expected.sign, "source": expected.source}
    value, interval = None, None
    if entry is not None:
        value = entry["value"] if is_itself else entry["difference"]
        interval = entry["interval"] if is_itself else entry["difference_interval"]
    if value is None or interval is None:
        return row | {"difference": None, "interval": None, "verdict": LACKING}
    low, high = interval
    told = OPEN if low == high else by_sign(expected.sign, low, high)
    return row | {"difference": value, "interval": [low, high], "verdict": told}


def _is_it(entry: Effect, expected: ArmExpectation, group: str) -> bool:
    return (entry["arm"], entry["measure"], entry["group"]) == (expected.arm, expected.measure, group)
