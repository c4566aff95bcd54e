"""What a sweep found: ratios and EMM of each level, differences from the baseline, and what was expected."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnemoscope.emm.sweeps.differences import difference, mean_ratio, times
from mnemoscope.emm.sweeps.estimate import RatioPoint, emm
from mnemoscope.emm.sweeps.file import Sweep
from mnemoscope.emm.sweeps.verdicts import verdict
from mnemoscope.run.rows import ReadRow

Entry = dict[str, Any]
MEANS = ("mean_distance", "ratio_apart", "coverage")
COLUMNS = (
    *("level", "x", "n", "ratio", "ratio_low", "ratio_high", "difference", "difference_low", "difference_high"),
    *("seeds", "samples", *MEANS),
)


def summary_of(asked: Sweep, rows: Sequence[ReadRow]) -> dict[str, Any]:
    """The table of a sweep's rows, EMM of each level, and the verdicts on what was expected."""
    points: dict[str, list[RatioPoint]] = {name: [] for name in asked.levels}
    for row in rows:
        points[row["level"]].append(RatioPoint(row["n"], row["ratio"], row["samples"], row["seed"]))
    points = {name: of_level for name, of_level in points.items() if of_level}
    about: Entry = {"name": asked.name, "question": asked.question, "factor": asked.factor, "paper": asked.paper}
    about |= {"confounders": list(asked.confounders), "eps": asked.eps, "baseline": asked.baseline}
    steps = {row["training"]: row["steps"] for row in rows}
    return about | {
        "trainings": len(steps),
        "steps": sum(steps.values()),
        "table": _table(asked, rows, points),
        "emm": {name: _emm(asked, points, name) for name in points},
        "expected": [verdict(asked, each, points) for each in asked.expected],
    }


def flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the table as a row of a CSV file."""
    columns = {key: entry[key] for key in COLUMNS if key in entry}
    for name, to in (("interval", "ratio"), ("difference_interval", "difference")):
        if entry[name]:
            columns[f"{to}_low"], columns[f"{to}_high"] = entry[name]
    return columns


def _table(asked: Sweep, rows: Sequence[ReadRow], points: Mapping[str, Sequence[RatioPoint]]) -> list[Entry]:
    table = []
    for name, every in points.items():
        for n in sorted({p.n for p in every}):
            points_there = [p for p in every if p.n == n]
            base = [p for p in points.get(asked.baseline, ()) if p.n == n and name != asked.baseline]
            ratio, interval = mean_ratio(points_there, resamples=asked.resamples)
            changed = difference(points_there, base, resamples=asked.resamples)
            of_size = [row for row in rows if row["level"] == name and row["n"] == n]
            means = {key: _mean(of_size, key) for key in MEANS}
            entry = {"level": name, "x": asked.levels[name].x, "n": n, "ratio": ratio, "interval": list(interval)}
            entry |= {"difference": changed and changed[0], "difference_interval": changed and list(changed[1])}
            table.append(entry | {"seeds": len(points_there), "samples": sum(p.samples for p in points_there), **means})
    return table


def _emm(asked: Sweep, points: Mapping[str, Sequence[RatioPoint]], name: str) -> Entry:
    estimate = emm(points[name], eps=asked.eps, resamples=asked.resamples)
    base = points.get(asked.baseline, []) if name != asked.baseline else []
    more = times(points[name], base, eps=asked.eps, resamples=asked.resamples)
    return estimate.as_json() | {"times": more and more[0], "times_interval": more and list(more[1])}


def _mean(rows: Sequence[ReadRow], key: str) -> float | None:
    known = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(known)) if known else None
