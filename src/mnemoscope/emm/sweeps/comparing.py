"""What a sweep found: ratios and EMM of each level, differences from the baseline, and what was expected."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from mnemoscope.emm.sweeps.differences import difference, mean_ratio, times
from mnemoscope.emm.sweeps.estimate import RatioPoint, emm
from mnemoscope.emm.sweeps.file import Sweep
from mnemoscope.emm.sweeps.verdicts import verdict
from mnemoscope.run.emm_rows import EmmSweepRow
from mnemoscope.run.reading import Json

MEANS = ("mean_distance", "ratio_apart", "coverage")
COLUMNS = (
    *("level", "x", "n", "ratio", "ratio_low", "ratio_high", "difference", "difference_low", "difference_high"),
    *("seeds", "samples", *MEANS),
)


def summary_of(asked: Sweep, rows: Sequence[EmmSweepRow]) -> Json:
    """The table of a sweep's rows, EMM of each level, and the verdicts on what was expected."""
    points: dict[str, list[RatioPoint]] = {name: [] for name in asked.levels}
    for row in rows:
        points[row["level"]].append(RatioPoint(row["n"], row["ratio"], row["samples"], row["seed"]))
    points = {name: of_level for name, of_level in points.items() if of_level}
    about: Json = {"name": asked.name, "question": asked.question, "factor": asked.factor, "paper": asked.paper}
    about |= {"confounders": list(asked.confounders), "eps": asked.eps, "baseline": asked.baseline}
    steps = {row["training"]: row["steps"] for row in rows}
    return about | {
        "trainings": len(steps),
        "steps": sum(steps.values()),
        "table": _table(asked, rows, points),
        "emm": {name: _emm(asked, points, name) for name in points},
        "expected": [verdict(asked, each, points) for each in asked.expected],
    }


class TableEntry(TypedDict):
    """A level at a size: its ratio and its difference from the baseline, each with a 95 % interval, and means."""

    level: str
    x: int | float | None
    n: int
    ratio: float
    interval: list[float]
    difference: float | None
    difference_interval: list[float] | None
    seeds: int
    samples: int
    mean_distance: float | None
    ratio_apart: float | None
    coverage: float | None


def flat(entry: TableEntry) -> dict[str, Any]:
    """An entry of the table as a row of a CSV file."""
    columns = {key: value for key, value in entry.items() if key in COLUMNS}
    for ends, to in ((entry["interval"], "ratio"), (entry["difference_interval"], "difference")):
        if ends:
            columns[f"{to}_low"], columns[f"{to}_high"] = ends
    return columns


def _table(asked: Sweep, rows: Sequence[EmmSweepRow], points: Mapping[str, Sequence[RatioPoint]]) -> list[TableEntry]:
    table: list[TableEntry] = []
    for name, every in points.items():
        for n in sorted({p.n for p in every}):
            points_there = [p for p in every if p.n == n]
            base = [p for p in points.get(asked.baseline, ()) if p.n == n and name != asked.baseline]
            ratio, interval = mean_ratio(points_there, resamples=asked.resamples)
            changed = difference(points_there, base, resamples=asked.resamples)
            of_size = [row for row in rows if row["level"] == name and row["n"] == n]
            entry: TableEntry = {
                "level": name,
                "x": asked.levels[name].x,
                "n": n,
                "ratio": ratio,
                "interval": list(interval),
                "difference": changed and changed[0],
                "difference_interval": changed and list(changed[1]),
                "seeds": len(points_there),
                "samples": sum(p.samples for p in points_there),
                "mean_distance": _mean(row.get("mean_distance") for row in of_size),
                "ratio_apart": _mean(row.get("ratio_apart") for row in of_size),
                "coverage": _mean(row.get("coverage") for row in of_size),
            }
            table.append(entry)
    return table


def _emm(asked: Sweep, points: Mapping[str, Sequence[RatioPoint]], name: str) -> Json:
    estimate = emm(points[name], eps=asked.eps, resamples=asked.resamples)
    base = points.get(asked.baseline, []) if name != asked.baseline else []
    more = times(points[name], base, eps=asked.eps, resamples=asked.resamples)
    return estimate.as_json() | {"times": more and more[0], "times_interval": more and list(more[1])}


def _mean(values: Iterable[int | float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
