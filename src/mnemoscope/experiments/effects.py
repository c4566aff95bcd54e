"""Arms by measures: values, paired differences from the baseline, and 95 % intervals over seeds and prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from jaxtyping import Float

from mnemoscope.experiments.drawing import HELD_OUT
from mnemoscope.measuring.bootstrap import Percentile, Statistic, mean, spread
from mnemoscope.measuring.correlation import correlation, spearman
from mnemoscope.run.training_rows import ExperimentRow
from mnemoscope.stats import resampler, wilson_interval

Column = Literal["own_similarity", "own_nearest", "copy", "similarity"]
Unit = tuple[int, str]  # seed and picture: what is drawn anew together
STATISTICS: dict[str, tuple[Column, Statistic]] = {
    "own_similarity": ("own_similarity", mean),
    "own_nearest": ("own_nearest", mean),
    "copy_rate": ("copy", mean),
    "any_similarity": ("similarity", mean),
    "any_p95": ("similarity", Percentile(95)),
}
SHARES = ("own_nearest", "copy_rate")
CORRELATIONS: dict[str, Literal["entropy", "jpeg"]] = {"entropy_r": "entropy", "jpeg_r": "jpeg"}
UNSEEN = ("any_similarity", "any_p95")  # what a held-out picture has


class ImageOfArm(ExperimentRow):
    """An image of an arm, and whether it is a copy."""

    copy: bool


class Effect(TypedDict):
    """A measure of an arm on a group of pictures, and its paired difference from the baseline, with 95 % intervals."""

    arm: str
    group: str
    measure: str
    value: float | None
    interval: list[float] | None
    images: int
    pictures: int
    seeds: int
    p: NotRequired[float | None]
    family: NotRequired[str]
    difference: float | None
    difference_interval: list[float] | None


def table(
    rows: Sequence[ExperimentRow],
    arms: Mapping[str, tuple[str, int | float | None]],
    baseline: str,
    *,
    threshold: int | float,
    resamples: int = 2000,
) -> list[Effect]:
    """A row for each arm, group and measure: value and interval, paired difference from the baseline and interval.

    Resamples draw seeds anew, and of each seed its pictures with all of their images, the same ones for both arms of a
    difference; with a single seed only pictures. Differences are of the pictures and seeds that both arms have. `arms`
    has the family and the dose of each. Raises `UsageError` for no resamples.
    """
    done: list[ImageOfArm] = [
        {**row, "copy": (row.get("own_similarity") or -1) >= threshold} for row in rows if row["status"] == "ok"
    ]
    groups = list(dict.fromkeys(row["group"] for row in done if row["group"] != HELD_OUT))
    entries: list[Effect] = []
    for group in [*(["all"] if len(groups) > 1 else []), *groups, HELD_OUT]:
        of_group = [row for row in done if row["group"] == group or (group == "all" and row["group"] != HELD_OUT)]
        for arm in arms:
            of_arm = [row for row in of_group if row["arm"] == arm]
            against = [row for row in of_group if row["arm"] == baseline and arm != baseline]
            for name in STATISTICS if group != HELD_OUT else UNSEEN:
                entries += _entry(name, arm, group, of_arm, against, resamples)
            entries += _correlations(arm, group, of_arm, resamples) if group != HELD_OUT else []
        if group != HELD_OUT:
            entries += _responses(of_group, group, arms, baseline, resamples)
    return entries


def weights(units: Sequence[Unit], resamples: int) -> Float[np.ndarray, "R U"]:
    """How often each unit counts in each resample: seeds drawn anew, then pictures of each drawn seed."""
    rng, seeds = resampler(resamples, 0), sorted({seed for seed, _ in units})
    drawn = rng.multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=resamples)
    counts = np.zeros((resamples, len(units)))
    for place, seed in enumerate(seeds):
        of_seed = [k for k, unit in enumerate(units) if unit[0] == seed]
        counts[:, of_seed] = rng.multinomial(drawn[:, place] * len(of_seed), [1 / len(of_seed)] * len(of_seed))
    return counts


def _entry(
    name: str, arm: str, group: str, of_arm: Sequence[ImageOfArm], against: Sequence[ImageOfArm], resamples: int
) -> list[Effect]:
    if not of_arm:
        return []
    column, statistic = STATISTICS[name]
    units = sorted({_unit(row) for row in of_arm})
    value, drawn = _drawn(of_arm, column, statistic, units, resamples)
    interval = spread(drawn)
    if name in SHARES and interval and interval[0] == interval[1]:
        interval = list(wilson_interval(round(value * len(units)), len(units)))
    entry: Effect = {
        "arm": arm,
        "group": group,
        "measure": name,
        "value": value,
        "interval": interval,
        **_counts(of_arm, units),
        "difference": None,
        "difference_interval": None,
    }
    both = sorted({_unit(row) for row in against} & set(units))
    if not both:
        return [entry]
    sides = [
        _drawn([r for r in side if _unit(r) in set(both)], column, statistic, both, resamples)
        for side in (of_arm, against)
    ]
    (one, one_drawn), (other, other_drawn) = sides
    return [{**entry, "difference": one - other, "difference_interval": spread(one_drawn - other_drawn)}]


def _drawn(
    rows: Sequence[ImageOfArm], column: Column, statistic: Statistic, units: Sequence[Unit], resamples: int
) -> tuple[float, Float[np.ndarray, " R"]]:
    """A statistic of the rows, and of each resample of their units."""
    number = {unit: k for k, unit in enumerate(units)}
    values = np.array([float(row[column]) for row in rows])
    order = np.argsort(values, kind="stable")
    places = np.array([number[_unit(row)] for row in rows])[order]
    ascending = values[order]
    value = float(statistic(ascending, np.ones((1, len(values))))[0])
    return value, statistic(ascending, weights(units, resamples)[:, places])


def _correlations(arm: str, group: str, of_arm: Sequence[ImageOfArm], resamples: int) -> list[Effect]:
    """How own-image similarity goes with the complexity of the picture; None where that cannot be said."""
    if not of_arm:
        return []
    similar = np.array([float(row["own_similarity"]) for row in of_arm])
    units = [_unit(row) for row in of_arm]
    entries = []
    for name, column in CORRELATIONS.items():
        each = correlation(similar, np.array([float(row[column]) for row in of_arm]), units, resamples=resamples)
        entry: Effect = {
            "arm": arm,
            "group": group,
            "measure": name,
            "value": each["pearson"],
            "interval": each["pearson_interval"],
            **_counts(of_arm, sorted(set(units))),
            "p": each["pearson_p"],
            "difference": None,
            "difference_interval": None,
        }
        entries.append(entry)
    return entries


def _responses(
    rows: Sequence[ImageOfArm],
    group: str,
    arms: Mapping[str, tuple[str, int | float | None]],
    baseline: str,
    resamples: int,
) -> list[Effect]:
    """For each family of arms, Spearman's correlation of dose and own-image similarity, mean over pictures and seeds.

    The baseline is the dose 0 of every family, and the row is that of the family's highest dose.
    """
    entries = []
    for family in dict.fromkeys(family for family, dose in arms.values() if family and dose is not None):
        doses = {name: dose for name, (of_top, dose) in arms.items() if of_top == family and dose is not None} | {
            baseline: 0
        }
        by_unit = {unit: each for unit, each in _by_unit(rows, list(doses)).items() if len(each) == len(doses)}
        slopes = {u: spearman(np.array(list(doses.values()), float), _each(e, doses)) for u, e in by_unit.items()}
        known = sorted(unit for unit, slope in slopes.items() if np.isfinite(slope))
        if not known or len(doses) < 3:
            continue
        values = np.array([slopes[unit] for unit in known])
        drawn = weights(known, resamples)
        top = max(doses, key=lambda name: doses[name])
        of_top = [row for row in rows if row["arm"] == top]
        entry: Effect = {
            "arm": top,
            "group": group,
            "measure": "dose_response",
            "value": float(values.mean()),
            "interval": spread(drawn @ values / drawn.sum(axis=1)),
            **_counts(of_top, known),
            "family": family,
            "difference": None,
            "difference_interval": None,
        }
        entries.append(entry)
    return entries


def _by_unit(rows: Sequence[ImageOfArm], arms: Sequence[str]) -> dict[Unit, dict[str, float]]:
    sums: dict[Unit, dict[str, list[float]]] = {}
    for row in rows:
        if row["arm"] in arms:
            sums.setdefault(_unit(row), {}).setdefault(row["arm"], []).append(float(row["own_similarity"]))
    return {unit: {arm: float(np.mean(each)) for arm, each in by_arm.items()} for unit, by_arm in sums.items()}


def _each(values: Mapping[str, float], doses: Mapping[str, Any]) -> Float[np.ndarray, " D"]:
    return np.array([values[name] for name in doses])


def _unit(row: ImageOfArm) -> Unit:
    return int(row["seed"]), str(row["picture"])


class _Counts(TypedDict):
    images: int
    pictures: int
    seeds: int


def _counts(rows: Sequence[ImageOfArm], units: Sequence[Unit]) -> _Counts:
    return {"images": len(rows), "pictures": len(units), "seeds": len({seed for seed, _ in units})}
