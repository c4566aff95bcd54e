"""What all benchmarks share: ways that take turns, rows of one form, the smallest size, and the file that rows go to.

`python benchmarks/NAME.py --rows FILE` adds each row as a line of JSON to FILE, from which `make bench` writes
docs/performance.md. Seconds are medians over rounds in which the ways take turns, one thread: CPU seconds of this
process, which other work on the machine lengthens little, and wall seconds. The first way is the plain one; the
bound, where there is one, is what cannot be left out, measured in the same turns or counted in evaluations.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Ways = Mapping[str, Callable[[], Any]]


@dataclass
class Taken:
    """Seconds of each round of one way, and what the last round gave."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    last: Any = None


def in_turn(ways: Ways, rounds: int, warm: bool = True) -> dict[str, Taken]:
    """Let the ways take turns, each as often as there are rounds; a round before that warms up."""
    taken = {name: Taken() for name in ways}
    for k in range(-1 if warm else 0, rounds):
        for name, work in ways.items():
            cpu, wall = time.process_time(), time.perf_counter()
            taken[name].last = work()
            if k >= 0:
                taken[name].cpu.append(time.process_time() - cpu)
                taken[name].wall.append(time.perf_counter() - wall)
    return taken


@dataclass(frozen=True)
class Row:
    """One way of doing one thing: seconds of a unit, and ratios of seconds unless `by` says evaluations or steps."""

    what: str
    way: str
    unit: str
    cpu: float | None = None
    wall: float | None = None
    evaluations: float | None = None
    plain: float | None = None  # how many times less than the plain way
    bound: float | None = None  # how many times more than what is necessary
    by: str = "CPU"


class Results:
    """The rows and sentences of one script, printed and added to a file where one is asked for."""

    def __init__(self, file: Path | None) -> None:
        self.file = None if file is None else file.resolve()  # a script may go elsewhere

    def say(self, text: str) -> None:
        """A sentence that belongs to the rows before it."""
        print(text, flush=True)
        self._add({"said": text})

    def rows(self, rows: list[Row]) -> None:
        """Rows of one table."""
        print(table(rows), flush=True)
        for row in rows:
            self._add(asdict(row))

    def times(
        self,
        what: str,
        unit: str,
        taken: Mapping[str, Taken],
        *,
        each: float | Mapping[str, float] = 1,
        evaluations: Mapping[str, float] | None = None,
        bound: str | None = None,
    ) -> None:
        """A row for each way: `each` is how many units a round does, `bound` the way that does only what it must."""
        counts = evaluations or {}
        units = {name: each[name] if isinstance(each, Mapping) else each for name in taken}
        cpu = {name: statistics.median(found.cpu) / units[name] for name, found in taken.items()}
        wall = {name: statistics.median(found.wall) / units[name] for name, found in taken.items()}
        first = next(iter(cpu.values()))
        self.rows(
            [
                Row(
                    *(what, name, unit, value, wall[name], counts.get(name)),
                    plain=_ratio(first, value),
                    bound=None if bound is None else _ratio(value, cpu[bound]),
                )
                for name, value in cpu.items()
            ]
        )

    def _add(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(line, ensure_ascii=False) + "\n")


def table(rows: list[Row]) -> str:
    """Rows in Markdown; ratios are of CPU seconds unless a row says otherwise."""
    head = ["what", "way", "CPU s", "wall s", "evaluations", "times less than plain", "times the bound"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * 5]
    for row in rows:
        by = "" if row.by == "CPU" else f" ({row.by})"
        ratios = ["" if r is None else f"{r:.2f}{by}" for r in (row.plain, row.bound)]
        numbers = ["" if n is None else f"{n:.3g}" for n in (row.cpu, row.wall)]
        count = "" if row.evaluations is None else f"{row.evaluations:,.4g}"
        cells = [f"{row.what}, {row.unit}", row.way, *numbers, count, *ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parser(doc: str | None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser of a script's options with those that all have: `--rows`, `--smallest`, and `--rounds` if there are."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=Path, help="add each row as a line of JSON to this file")
    made.add_argument("--smallest", action="store_true", help="the smallest size there is, which shows no ratio")
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    return made


def parsed(made: argparse.ArgumentParser, **smallest: Any) -> argparse.Namespace:
    """What was asked for; with `--smallest` these defaults hold in the place of the parser's."""
    if "--smallest" in sys.argv[1:]:
        made.set_defaults(**smallest, **({} if "rounds" in smallest else {"rounds": 1}))
    return made.parse_args()


def _ratio(one: float, other: float) -> float | None:
    return one / other if other > 0 else None
