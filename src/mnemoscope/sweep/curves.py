"""The points of a sweep, and the curves through them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.errors import UsageError
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.run.image_rows import SweepRow
from mnemoscope.run.writing import write_csv


@dataclass(frozen=True)
class SweepPoint:
    """A mitigation at one strength; no mitigation at all is the point that the others are compared with."""

    mitigation: Mitigation | None = None
    parameter: str | None = None
    strength: Any = None

    @property
    def name(self) -> str:
        return "none" if self.mitigation is None else f"{self.method}-{self.strength}"

    @property
    def method(self) -> str:
        """The mitigation's name, which of one from a file is its function's: images are named after it."""
        return "none" if self.mitigation is None else registry.stopping(self.mitigation.name).name


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


class CurvePoint(TypedDict):
    """What a point of a sweep does, with 95 % intervals over prompts; `other_` is of prompts without an own image."""

    mitigation: str
    parameter: str | None
    strength: Any
    images: int
    replication_rate: float | None
    replication_interval: list[float] | None
    similarity_mean: float | None
    similarity_interval: list[float] | None
    alignment_mean: float | None
    alignment_interval: list[float] | None
    alignment_above_chance: float | None
    alignment_above_chance_interval: list[float] | None
    other_images: int
    other_alignment_mean: float | None
    other_alignment_interval: list[float] | None
    unchanged: float | None
    evaluations_per_image: float | None
    seconds_per_image: float | None


def curve(rows: Sequence[SweepRow], point: SweepPoint, replication_threshold: float) -> CurvePoint:
    """What a point does to prompts whose training image is known, and to all others, with intervals over prompts."""
    done = [r for r in rows if r["status"] == "ok"]
    of_point = [r for r in done if (r["mitigation"], r["strength"]) == (point.method, point.strength)]
    own = [(r, similarity) for r in of_point if (similarity := r["own_similarity"]) is not None]
    copied, others = [r for r, _ in own], [r for r in of_point if r["own_similarity"] is None]
    rate = _rate([(r["prompt_id"], float(similarity >= replication_threshold)) for r, similarity in own])
    alike = _mean([(r["prompt_id"], similarity) for r, similarity in own])
    alignment, above = _mean(_aligned(copied)), _mean(_above_chance(copied))
    other_alignment = _mean(_aligned(others))
    return {
        "mitigation": point.method,
        "parameter": point.parameter,
        "strength": point.strength,
        "images": len(copied),
        "replication_rate": rate.mean,
        "replication_interval": rate.interval,
        "similarity_mean": alike.mean,
        "similarity_interval": alike.interval,
        "alignment_mean": alignment.mean,
        "alignment_interval": alignment.interval,
        "alignment_above_chance": above.mean,
        "alignment_above_chance_interval": above.interval,
        "other_images": len(others),
        "other_alignment_mean": other_alignment.mean,
        "other_alignment_interval": other_alignment.interval,
        "unchanged": _share([r["unchanged"] for r in others if r["unchanged"] is not None]),
        "evaluations_per_image": _share([r["evaluations"] for r in of_point]),
        "seconds_per_image": _share([r["seconds"] for r in of_point]),
    }


Values = Sequence[tuple[str, float]]  # of an image each, with the id of its prompt


class _Mean(NamedTuple):
    """A mean over prompts and its 95 % interval; the images of a prompt are averaged first."""

    mean: float | None
    interval: list[float] | None


def _rate(values: Values) -> _Mean:
    """Share of images, with an interval over prompts that is honest where all prompts are alike as well."""
    rate, prompts = _mean(values), len({prompt for prompt, _ in values})
    if rate.mean in (0.0, 1.0):
        return rate._replace(interval=list(stats.wilson_interval(round(rate.mean * prompts), prompts)))
    return rate


def _aligned(rows: Sequence[SweepRow]) -> list[tuple[str, float]]:
    return [(row["prompt_id"], alignment) for row in rows if (alignment := row["alignment"]) is not None]


def _above_chance(rows: Sequence[SweepRow]) -> list[tuple[str, float]]:
    """How much more the images are aligned than by chance, where both are known."""
    pairs = [(row["prompt_id"], row["alignment"], row.get("alignment_chance")) for row in rows]
    return [(prompt, own - chance) for prompt, own, chance in pairs if own is not None and chance is not None]


def _share(values: Sequence[int | float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _mean(values: Values) -> _Mean:
    by_prompt: dict[str, list[float]] = {}
    for prompt, value in values:
        by_prompt.setdefault(prompt, []).append(value)
    means = np.array([np.mean(v) for v in by_prompt.values()])
    interval = list(stats.mean_interval(means)) if means.size > 1 else None
    return _Mean(float(means.mean()) if means.size else None, interval)


def write_curves(curves: Sequence[CurvePoint], file: Path) -> None:
    """The curves as a table; an interval is two columns."""
    flat: list[dict[str, object]] = []
    for point in curves:
        row: Mapping[str, Any] = point
        plain = {k: v for k, v in row.items() if not k.endswith("_interval")}
        ends = {k: v or [None, None] for k, v in row.items() if k.endswith("_interval")}
        flat.append(
            plain | {f"{k[:-9]}_{side}": v[i] for k, v in ends.items() for i, side in enumerate(("low", "high"))}
        )
    write_csv(file, list(flat[0]), flat, end_of_line="\r\n")
