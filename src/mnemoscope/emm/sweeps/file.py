"""A sweep of a factor as a YAML file describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mnemoscope.emm.sweeps.level import SECTIONS, FactorLevel
from mnemoscope.errors import UsageError
from mnemoscope.run.fields import known_in, made
from mnemoscope.run.settings import Settings, one_of
from mnemoscope.run.yaml_values import read_yaml
from mnemoscope.study.hardware import Hardware

ABOUT = ("name", "question", "factor", "paper", "confounders", "eps", "resamples")
PLANNED = ("baseline", *SECTIONS, "sizes", "levels", "expected")
FULL = (*PLANNED, "layout", "channels", "resolution", "device")
CARD = Hardware("one NVIDIA A100 in float32", 19.5, 0.5)


@dataclass(frozen=True)
class Expectation:
    """What a paper, or reason, says of a level at a size, or of its EMM where no size is given.

    `sign` is of the difference from another level, the baseline unless `against` names one, in the ratio or in the
    logarithm of EMM; `=` is a difference of at most `margin` either way. `within` is a range of the value itself.
    """

    level: str
    n: int | None = None
    sign: Literal["+", "-", "="] | None = None
    margin: int | float = 0
    within: tuple[int | float, ...] | None = None
    against: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if (self.sign is None) == (self.within is None) or (self.sign == "=") != bool(self.margin):
            raise UsageError("Give a sign or within, and a margin above 0 with the sign =, and only there.")
        if self.within is not None and (len(self.within) != 2 or self.within[0] >= self.within[1]):
            raise UsageError(f"within is {list(self.within)}; give the smallest and the largest value.")


@dataclass(frozen=True)
class Sweep:
    """A sweep at one size; `given` is what it is known again by when it goes on."""

    file: str
    name: str
    question: str
    factor: str
    paper: str
    confounders: tuple[str, ...]
    eps: int | float
    resamples: int
    baseline: str
    levels: dict[str, FactorLevel]
    expected: tuple[Expectation, ...]
    is_full: bool
    given: Settings
    layout: str = ""
    channels: int | None = None
    resolution: int | None = None
    hardware: Hardware = CARD


def read_sweep(file: Path, *, full: bool = False) -> Sweep:
    """The sweep of a file, every option of every level checked; with `full` that of the original size.

    Raises `UsageError` in one sentence.
    """
    held = read_yaml(file)
    try:
        return _sweep(file.name, known_in(file.name, held, (*ABOUT, *PLANNED, "full")), full)
    except UsageError as e:
        raise UsageError(str(e) if str(e).startswith(file.name) else f"{file.name}: {e}") from e


def _sweep(file: str, held: Settings, full: bool) -> Sweep:
    about = {key: held[key] for key in ABOUT if key in held}
    given = known_in("full", held.get("full"), FULL) if full else {key: held[key] for key in PLANNED if key in held}
    if full and not given:
        raise UsageError("it has no full size; leave out --full, or write full: with its settings.")
    for key, place in (("name", about), ("question", about), ("levels", given), ("sizes", given), ("data", given)):
        if not place.get(key):
            raise UsageError(f"it lacks {key}; every sweep has it.")
    levels = _levels(given)
    sweep = Sweep(
        *(file, str(about["name"]), str(about["question"]), str(about.get("factor") or about["name"])),
        paper=str(about.get("paper", "")),
        confounders=tuple(map(str, about.get("confounders") or ())),
        eps=about.get("eps", 0.1),
        resamples=about.get("resamples", 2000),
        baseline=str(given.get("baseline") or next(iter(levels))),
        levels=levels,
        expected=tuple(made(Expectation, "expected", each) for each in given.get("expected") or ()),
        is_full=full,
        given=about | given,
        **_of_size(given if full else {}),
    )
    _check(sweep)
    return sweep


def _levels(given: Mapping[str, Any]) -> dict[str, FactorLevel]:
    base = {part: known_in(part, given.get(part), [*(given.get(part) or {})]) for part in SECTIONS}
    listed = given["levels"]
    if not isinstance(listed, Mapping):
        raise UsageError(f"levels is {listed!r}; write each level below it, name: what it changes.")
    return {
        str(name): FactorLevel.of(str(name), settings, {**base, "sizes": given["sizes"]})
        for name, settings in listed.items()
    }


def _of_size(full: Settings) -> Settings:
    plain = {key: full[key] for key in ("layout", "channels", "resolution") if key in full}
    return plain | ({"hardware": made(Hardware, "full: device", full["device"])} if full.get("device") else {})


def _check(sweep: Sweep) -> None:
    if not 0 < sweep.eps < 1 or sweep.resamples < 1:
        raise UsageError("eps is a number between 0 and 1, both excluded, and resamples is 1 or more.")
    one_of("baseline", sweep.baseline, [*sweep.levels])
    for each in sweep.expected:
        for what, name in (("level", each.level), ("against", each.against or sweep.baseline)):
            one_of(f"expected: {what}", name, [*sweep.levels])
