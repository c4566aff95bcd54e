"""Whether images show what was asked for: how well they fit their prompts, and how well they would by chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnemoscope.report.text import number
from mnemoscope.run.reading import Json
from mnemoscope.stats import mean_interval

Ends = tuple[float, float]


@dataclass(frozen=True)
class Alignment:
    """Alignment of images: its mean, that by chance, and the interval, over prompts, of what it is above chance.

    `shown` counts images that show their prompt, where the measure says yes or no, and is None where it is a cosine.
    """

    images: int
    mean: float
    chance: float | None
    above: Ends | None
    shown: int | None

    @property
    def said(self) -> str:
        """The mean, or the count of images that show what was asked for."""
        return f"{self.mean:.2f}" if self.shown is None else f"{self.shown:,} of {self.images:,}"

    @property
    def by_chance(self) -> str:
        """What chance gives, in words; empty where nobody knows."""
        if self.chance is None:
            return ""
        return f"{self.chance:.2f}" if self.shown is None else f"{self.chance * self.images:.1f} of {self.images:,}"


def alignment(rows: Sequence[Json]) -> Alignment | None:
    """The alignment of the images that have one; None where none has."""
    known = [row for row in rows if number(row.get("alignment")) is not None]
    if not known:
        return None
    values = np.array([row["alignment"] for row in known], dtype=np.float64)
    is_count = bool(np.isin(values, (0.0, 1.0)).all())
    with_chance = [row for row in known if number(row.get("alignment_chance")) is not None]
    chance = float(np.mean([row["alignment_chance"] for row in with_chance])) if with_chance else None
    shown = int(values.sum()) if is_count else None
    return Alignment(len(known), float(values.mean()), chance, _above(with_chance), shown)


def is_destroyed(before: Ends | None, after: Ends | None) -> bool:
    """Whether images that fitted their prompts better than chance no longer do; both are intervals of what is above it.

    Where the unmitigated images cannot be told from chance either, or an interval is unknown, nothing can be said.
    """
    return before is not None and after is not None and before[0] > 0 >= after[0]


def _above(rows: Sequence[Json]) -> Ends | None:
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row["alignment"] - row["alignment_chance"])
    means = np.array([np.mean(own) for own in by_prompt.values()])
    return mean_interval(means) if means.size > 1 else None
