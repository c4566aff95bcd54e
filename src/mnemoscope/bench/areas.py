"""The area under a whole curve of strengths, and which method has the largest one."""

import math
from collections.abc import Mapping, Sequence

from mnemoscope.run.bench_rows import BenchFigure, BenchRow

AREA, FIRST = "area", "first"


def area(pairs: Sequence[tuple[float, float]]) -> float:
    """The part of the square of alignment and freedom from copies that some strength reaches, from 0 to 1.

    `pairs` are alignment and copy rate of each strength: the union of the rectangles from 0 to the alignment, and from
    0 to the share that is no copy. 1 is all images aligned and none copied; NaN without any pair.
    """
    known = [(a, 1 - c) for a, c in pairs if not math.isnan(a) and not math.isnan(c)]
    if not known:
        return math.nan
    covered = reached = 0.0
    for aligned, free in sorted(known, reverse=True):
        covered += aligned * max(free - reached, 0.0)
        reached = max(reached, free)
    return covered


def firsts(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """The rows, with a mark where a method's area is the largest of its model and group, or not told apart from it."""
    best: dict[tuple[str, str], BenchFigure] = {}
    for row in rows:
        for found in row["figures"]:
            key = (row["model"], found["group"])
            if found["quantity"] == AREA and (key not in best or _value(found) > _value(best[key])):
                best[key] = found
    return [{**row, "figures": [*row["figures"], *_marks(row, best)]} for row in rows]


def _marks(row: BenchRow, best: Mapping[tuple[str, str], BenchFigure]) -> list[BenchFigure]:
    made: list[BenchFigure] = []
    for found in row["figures"]:
        if found["quantity"] == AREA:
            first = best[row["model"], found["group"]]
            text = "first" if found is first else "not told apart"
            if found is first or _end(found, 1) >= _end(first, 0):
                made.append({**found, "quantity": FIRST, "value": 1.0, "interval": None, "text": text})
    return made


def _value(found: BenchFigure) -> float:
    return -math.inf if found["value"] is None else found["value"]


def _end(found: BenchFigure, side: int) -> float:
    """The lower or upper end of an interval; beyond everything where it has none, and all is possible."""
    end = found["interval"][side] if found["interval"] else None
    return (-math.inf, math.inf)[side] if end is None else end
