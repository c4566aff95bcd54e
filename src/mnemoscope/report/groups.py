"""Prompts by what a detection said of them: no rate is taken over a mixture of flagged and other prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnemoscope.gate.estimates import Estimate, estimate
from mnemoscope.report.record import Record
from mnemoscope.report.text import number
from mnemoscope.run.reading import Json

DETECTED = ("score", "flagged", "label", "kind")
DRAWN = ("generate", "measure")
NAMES = {
    "flagged": {True: "prompts that look memorized", False: "other prompts", None: "prompts of which nothing is said"},
    "label": {True: "memorized prompts", False: "ordinary prompts", None: "prompts without a label"},
}


def joined(records: list[Record]) -> list[Record]:
    """Records of an audit, whose images have what the detection said of their prompts where they do not say it."""
    known = {row["prompt_id"]: row for record in records for row in record.ranked if record.command == "detect"}
    for row in (row for record in records if record.command in DRAWN for row in record.done):
        found = known.get(row["prompt_id"], {})
        row |= {key: found.get(key) for key in DETECTED if row.get(key) is None}
    return records


@dataclass(frozen=True)
class Group:
    """Images of prompts of which one thing was said: `name` in words, `flag` the thing, None for all images."""

    name: str
    flag: bool | None
    rows: list[Json]

    def share(self, hits: Sequence[bool]) -> Estimate:
        """The share of images that hit, with an interval to which images of one prompt do not count as independent."""
        return estimate(np.array(hits, dtype=np.float64), [row["prompt_id"] for row in self.rows], "rate", 0.95)

    @property
    def prompts(self) -> int:
        return len({row["prompt_id"] for row in self.rows})

    @property
    def counted(self) -> str:
        """How many prompts it is, with the name."""
        one = self.name.replace("prompts that look ", "prompt that looks ").replace("prompts", "prompt")
        return f"{self.prompts:,} {one if self.prompts == 1 else self.name}"


def groups(rows: Sequence[Json]) -> list[Group]:
    """Images by whether their prompts are flagged, else by their labels, else all as one; never a group without any."""
    for key, names in NAMES.items():
        found = {flag: [row for row in rows if row.get(key) is flag] for flag in names}
        if found[True] or found[False]:
            return [Group(names[flag], flag, own) for flag, own in found.items() if own]
    return [Group("prompts", None, list(rows))] if rows else []


@dataclass(frozen=True)
class Copies:
    """How many images of a group are copies, strictly above the run's threshold, and of how many prompts they are."""

    group: Group
    copies: int
    prompts: int
    interval: tuple[float, float]

    @property
    def said(self) -> str:
        """The count in words."""
        return f"{self.copies:,} of {len(self.group.rows):,}"


def is_copy(record: Record, row: Json) -> bool:
    """Whether an image is more similar to a training picture than the measurement's threshold."""
    limit = number(record.summary.get("threshold"))
    return limit is not None and row["score"] is not None and row["score"] > limit


def copies(record: Record) -> list[Copies]:
    """The copies of each group of a measurement; none where nothing was compared with training pictures."""
    compared = [row for row in record.done if row["score"] is not None]
    if number(record.summary.get("threshold")) is None:
        return []
    made = []
    for group in groups(compared):
        hits = [is_copy(record, row) for row in group.rows]
        found = group.share(hits)
        of = len({row["prompt_id"] for row, hit in zip(group.rows, hits, strict=True) if hit})
        made.append(Copies(group, sum(hits), of, (found.low, found.high)))
    return made
