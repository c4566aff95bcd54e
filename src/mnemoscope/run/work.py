"""The work of a run, in `work.jsonl`: network evaluations and seconds, each of some rows or of a named part.

Work counts as far as its rows are there and were not computed again later: the sum of a run that was killed and went on
is that of one that was not.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import ADVICE, read_table
from mnemoscope.run.schema import misfit_fields

FILE = "work.jsonl"


class Work(TypedDict):
    """A line of `work.jsonl`."""

    evaluations: int
    seconds: float
    rows: NotRequired[list[str]]
    part: NotRequired[str]


def read_work(folder: Path) -> list[Work]:
    """The lines of a run's `work.jsonl`; raises `UsageError` for one that says nothing of work."""
    lines: list[Any] = read_table(folder / FILE)
    for number, line in enumerate(lines, 1):
        if why := misfit_fields(line, Work):
            raise UsageError(f"{folder / FILE}, line {number} says nothing of work ({why}); {ADVICE}")
    return lines


def work_of(work: Sequence[Work], rows: Iterable[str]) -> list[Work]:
    """The work that rows took, and that of the run's parts: what was done again later, or lost, is left out."""
    present = set(rows)
    kept: list[Work] = []
    seen: set[str] = set()
    for line in reversed(work):
        names = line.get("rows")
        part = f"part {line.get('part')}"
        if names is None:
            if "part" not in line or part not in seen:
                kept.append(line)
            seen |= {part} if "part" in line else set()
            continue
        mine = [name for name in names if name in present and f"row {name}" not in seen]
        seen |= {f"row {name}" for name in names}
        if mine:
            share = len(mine) / len(names)
            amount = {"evaluations": round(line["evaluations"] * share), "seconds": round(line["seconds"] * share, 3)}
            kept.append({**line, **amount, "rows": mine})  # type: ignore[typeddict-item]
    return kept[::-1]


def torn(work: Iterable[Work], rows: Collection[str]) -> set[str]:
    """The rows that are there while others are not that were to be appended with them."""
    parts = (line.get("rows", []) for line in work)
    return {name for names in parts if not all(n in rows for n in names) for name in names if name in rows}


def totals(work: Iterable[Work]) -> dict[str, int | float]:
    """Network evaluations and seconds of all work."""
    listed = list(work)
    return {
        "network_evaluations": sum(line["evaluations"] for line in listed),
        "seconds": round(sum(line["seconds"] for line in listed), 3),
    }
