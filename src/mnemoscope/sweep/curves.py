"""The points of a sweep, and the curves through them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.errors import UsageError
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.run.rows import Row
from mnemoscope.run.writing import whole


@dataclass(frozen=True)
class SweepPoint:
    """A mitigation at one strength; no mitigation at all is the point that the others are compared with."""

    mitigation: Mitigation | None = None
    parameter: str | None = None
    strength: Any = None

    @property
    def name(self) -> str:
        return "none" if self.mitigation is None else f"{self.mitigation.name}-{self.strength}"

    @property
    def method(self) -> str:
        return "none" if self.mitigation is None else self.mitigation.name


def points(mitigations: Sequence[Mitigation], strengths: Mapping[str, Sequence[Any]] | None = None) -> list[SweepPoint]:
    """No mitigation, then each one at each of its usual strengths, or at those that are given under its name.

    Raises `UsageError` for a mitigation that cannot be as it is given.
    """
    every = [SweepPoint()]
    for each in mitigations:
        method = registry.stopping(each.name)
        if method.strength is None:
            each.check()
            every.append(SweepPoint(each))
            continue
        parameter, usual = method.strength
        if parameter in each.params:
            raise UsageError(f"{each.name} is swept over {parameter}; leave it out of --param, or use generate.")
        for strength in (strengths or {}).get(each.name) or usual:
            point = SweepPoint(Mitigation(each.name, {**each.params, parameter: strength}), parameter, strength)
            assert point.mitigation is not None
            point.mitigation.check()
            every.append(point)
    return every


def curve(rows: Sequence[Row], point: SweepPoint, replication_threshold: float) -> Row:
    """What a point does to prompts whose training image is known, and to all others, with intervals over prompts."""
    done = [r for r in rows if r["status"] == "ok"]
    of_point = [r for r in done if (r["mitigation"], r["strength"]) == (point.method, point.strength)]
    copied = [r for r in of_point if r["own_similarity"] is not None]
    others = [r for r in of_point if r["own_similarity"] is None]
    rates = [{**r, "replicates": float(r["own_similarity"] >= replication_threshold)} for r in copied]
    return {
        "mitigation": point.method,
        "parameter": point.parameter,
        "strength": point.strength,
        "images": len(copied),
        **_rate(rates, "replicates"),
        **dict(_mean(copied, "own_similarity", "similarity_mean", "similarity")),
        **dict(_mean(copied, "alignment", "alignment_mean", "alignment")),
        **dict(_mean(_above_chance(copied), "above", "alignment_above_chance", "alignment_above_chance")),
        "other_images": len(others),
        **dict(_mean(others, "alignment", "other_alignment_mean", "other_alignment")),
        "unchanged": _share([r["unchanged"] for r in others if r["unchanged"] is not None]),
        "evaluations_per_image": _share([r["evaluations"] for r in of_point]),
        "seconds_per_image": _share([r["seconds"] for r in of_point]),
    }


def _rate(rows: Sequence[Row], key: str) -> Row:
    """Share of images, with an interval over prompts that is honest where all prompts are alike as well."""
    summary = dict(_mean(rows, key, "replication_rate", "replication"))
    rate, prompts = summary["replication_rate"], len({r["prompt_id"] for r in rows})
    if rate in (0.0, 1.0):
        summary["replication_interval"] = list(stats.wilson_interval(round(rate * prompts), prompts))
    return summary


def _above_chance(rows: Sequence[Row]) -> list[Row]:
    """The rows whose alignment by chance is known, with how much more they are aligned."""
    known = [row for row in rows if row["alignment"] is not None and row.get("alignment_chance") is not None]
    return [{**row, "above": row["alignment"] - row["alignment_chance"]} for row in known]


def _share(values: Sequence[int | float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _mean(rows: Sequence[Row], key: str, mean: str, interval: str) -> Iterator[tuple[str, Any]]:
    """Mean of a column over prompts, and its 95 % interval; the images of a prompt are averaged first."""
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        if row[key] is not None:
            by_prompt.setdefault(row["prompt_id"], []).append(row[key])
    values = np.array([np.mean(v) for v in by_prompt.values()])
    yield mean, float(values.mean()) if values.size else None
    yield f"{interval}_interval", list(stats.mean_interval(values)) if values.size > 1 else None


def write_curves(curves: Sequence[Row], file: Path) -> None:
    """The curves as a table; an interval is two columns."""
    flat = []
    for row in curves:
        plain = {k: v for k, v in row.items() if not k.endswith("_interval")}
        ends = {k: v or [None, None] for k, v in row.items() if k.endswith("_interval")}
        flat.append(
            plain | {f"{k[:-9]}_{side}": v[i] for k, v in ends.items() for i, side in enumerate(("low", "high"))}
        )
    with whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
