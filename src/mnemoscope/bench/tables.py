"""What a bench found as tables: to read on a page, and to paste elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mnemoscope.run.bench_rows import BenchFigure, BenchRow
from mnemoscope.run.reading import Json

Column = tuple[str, str, str]  # quantity, group, heading


@dataclass(frozen=True)
class Sheet:
    """A table of methods: its title, how it is read, its columns; `quantities` are those with a column a group."""

    title: str
    lead: str
    quantities: Mapping[str, str]  # a quantity and what its columns are headed with, before the group
    groups: tuple[str, ...] = ()  # only these; all if none
    has_seconds: bool = False  # whether the seconds of a prompt or image stand at the end

    def columns(self, rows: Sequence[BenchRow]) -> list[Column]:
        """The columns that any row has a value for, in the order of the quantities."""
        found: dict[tuple[str, str], None] = {}
        for row in rows:
            found |= dict.fromkeys((f["quantity"], f["group"]) for f in row["figures"])
        chosen = [key for quantity in self.quantities for key in found if key[0] == quantity]
        kept = [key for key in chosen if not self.groups or key[1] in self.groups]
        return [(quantity, group, f"{self.quantities[quantity]} {group}".strip()) for quantity, group in kept]


def tables(rows: Sequence[BenchRow], sheets: Sequence[Sheet]) -> list[Json]:
    """Each sheet with a line for each row that has one of its values; what was left out stands in the first one."""
    made: list[Json] = []
    for sheet in sheets:
        columns = sheet.columns(rows)
        lines = [line for row in rows if (line := _line(row, columns, first=not made))]
        if columns:
            heads = [heading for _, _, heading in columns]
            made.append({"title": sheet.title, "lead": sheet.lead, "columns": heads, "rows": lines})
            made[-1]["has_seconds"] = sheet.has_seconds
    return made or _all_left_out(rows, sheets)


def _all_left_out(rows: Sequence[BenchRow], sheets: Sequence[Sheet]) -> list[Json]:
    """The first sheet with nothing but the reasons, where no method has any value."""
    column: list[Column] = [("", "", "found")]
    lines = [line for row in rows if (line := _line(row, column, first=True))]
    first = {"title": sheets[0].title, "lead": sheets[0].lead, "columns": ["found"], "has_seconds": False}
    return [{**first, "rows": lines}] if lines else []


def _line(row: BenchRow, columns: Sequence[Column], *, first: bool) -> Json | None:
    own = {(f["quantity"], f["group"]): f for f in row["figures"]}
    cells = [_cell(own.get((quantity, group))) for quantity, group, _ in columns]
    why = row.get("left_out")
    if not any(cell["text"] for cell in cells) and not (why and first):
        return None
    known = {key: row.get(key) for key in ("model", "method", "at", "left_out", "seconds")}
    return {**known, "cells": cells}


def _cell(found: BenchFigure | None) -> Json:
    return {"text": "", "value": None} if found is None else {"text": found["text"], "value": found["value"]}


def markdown(title: str, made: Sequence[Json], notes: Sequence[str]) -> str:
    """All tables as Markdown, with what they have to be read with."""
    return "\n".join(_lines(title, made, notes)) + "\n"


def _lines(title: str, made: Sequence[Json], notes: Sequence[str]) -> Iterator[str]:
    yield f"# {title}"
    for table in made:
        has_at, has_seconds = any(row["at"] for row in table["rows"]), table["has_seconds"]
        heads = ["model", "method", *["at"] * has_at, *table["columns"], *["seconds"] * has_seconds]
        yield from ("", f"## {table['title']}", "", table["lead"], "")
        yield f"| {' | '.join(heads)} |"
        yield "|" + "---|" * len(heads)
        for row in table["rows"]:
            texts = [cell["text"] for cell in row["cells"]]
            if row["left_out"]:
                texts[0] = f"left out: {row['left_out']}"
            named = [row["model"], row["method"], *[row["at"]] * has_at]
            whole = [*named, *texts, *[took(row["seconds"])] * has_seconds]
            yield f"| {' | '.join(map(_escaped, whole))} |"
    if notes:
        yield ""
        yield from (f"- {note}" for note in notes)


def took(seconds: float | None) -> str:
    """Seconds as a table shows them."""
    return "" if seconds is None else f"{seconds:.3f} s"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
