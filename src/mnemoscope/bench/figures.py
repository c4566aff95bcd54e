"""Figures with intervals: prompts of one picture are drawn anew together, each group on its own."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from mnemoscope import stats
from mnemoscope.bench.truth import TruePrompt
from mnemoscope.run.bench_rows import BenchFigure

RESAMPLES = 1000
UNTOLD = "interval not known"  # of a single picture
ALL, OTHERS = "all", "others"  # the groups of all prompts whose pictures were trained, and of the rest
Key = tuple[str, str]  # quantity and group
Places = Int[np.ndarray, "..."]  # of prompts, one again as often as it was drawn
Statistics = Callable[[Places], Mapping[Key, float]]


@runtime_checkable
class Case(Protocol):
    """What is judged: its picture, and the group within which pictures are drawn anew."""

    @property
    def entry(self) -> str: ...

    @property
    def group(self) -> str: ...


@dataclass(frozen=True)
class Form:
    """How the values of a quantity are written; `bounded` are shares, whose interval is never empty.

    `against` is the group that a group is held against, where there is one: the smaller of both says how sure it is.
    """

    write: Callable[[float], str] = "{:.2f}".format
    bounded: bool = False
    against: str | None = None


def figures(
    known: Sequence[Case],
    statistics: Statistics,
    counts: Mapping[str, int],
    forms: Mapping[str, Form],
    *,
    seed: int = 0,
) -> list[BenchFigure]:
    """All statistics of some prompts, with 95 % intervals over their pictures; what is NaN is left out.

    `counts` says of how many pictures a group is. A share that is the same whichever pictures are drawn has Wilson's
    interval. Where each group has one picture, no figure has an interval.
    """
    values = statistics(np.arange(len(known)))
    rng, strata = stats.resampler(RESAMPLES, seed), _strata(known)
    drawn: dict[Key, list[float]] = {key: [] for key in values}
    for _ in range(RESAMPLES):
        for key, value in statistics(_drawn(strata, rng)).items():
            drawn.setdefault(key, []).append(value)
    made, is_single = [], all(len(own) == 1 for own in strata)
    for (quantity, group), value in values.items():
        if not math.isnan(value):
            own = [v for v in drawn[quantity, group] if not math.isnan(v)]
            form = forms[quantity]
            count = min(counts[group], counts[form.against]) if form.against else counts[group]
            made.append(figure(quantity, group, value, [] if is_single else own, count, form))
    return made


def figure(quantity: str, group: str, value: float, drawn: Sequence[float], count: int, form: Form) -> BenchFigure:
    """One figure with its interval, and both as a text. An end that is not finite is null.

    Where no pictures could be drawn anew the interval is not known, which the text says.
    """
    interval = _interval(value, drawn, count, form)
    return {
        "quantity": quantity,
        "group": group,
        "value": value if math.isfinite(value) else None,
        "interval": [end if math.isfinite(end) else None for end in interval] if interval else None,
        "count": count,
        "text": f"{form.write(value)} [{', '.join(map(form.write, interval)) if interval else UNTOLD}]",
    }


def _interval(value: float, drawn: Sequence[float], count: int, form: Form) -> tuple[float, float] | None:
    if count < 2 or not drawn:
        return None
    low, high = stats.middle(drawn, outward=True)
    if form.bounded and (value in (0, 1) or low == high):
        return stats.wilson_interval(value * count, count)
    return low, high


def plain(quantity: str, group: str, value: float, count: int, form: Form) -> BenchFigure:
    """A figure without an interval, such as a cost."""
    return {
        "quantity": quantity,
        "group": group,
        "value": value,
        "interval": None,
        "count": count,
        "text": form.write(value),
    }


def pictures(known: Sequence[TruePrompt]) -> dict[str, int]:
    """How many pictures each group is of, and all together."""
    entries: dict[str, set[str]] = {}
    for each in known:
        for name in (each.group, each.kind, ALL if each.is_member else OTHERS):
            entries.setdefault(name, set()).add(each.entry)
    return {name: len(own) for name, own in entries.items()}


def _strata(known: Sequence[Case]) -> list[list[Places]]:
    """The places of each picture's prompts, by group."""
    found: dict[str, dict[str, list[int]]] = {}
    for place, each in enumerate(known):
        found.setdefault(each.group, {}).setdefault(each.entry, []).append(place)
    return [[np.array(places) for places in own.values()] for own in found.values()]


def _drawn(strata: Sequence[Sequence[Places]], rng: np.random.Generator) -> Places:
    """Pictures of each group drawn anew, as the places of their prompts."""
    return np.concatenate([own[k] for own in strata for k in rng.integers(len(own), size=len(own))])
