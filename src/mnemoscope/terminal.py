"""A run in the terminal: its headline, its most suspicious rows, its notes; captions cannot steer the terminal."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mnemoscope.headline import Record, Row, headline, parts, read

STEERING = {"Cc", "Cs", "Zl", "Zp"}  # control characters, half characters, line and paragraph breaks
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # of the writing direction


def print_run(run: Path, console: Console, limit: int = 10) -> None:
    """Print what a run found: one sentence, the `limit` most suspicious rows, the notes, and where its report is.

    Both parts of an audit are printed. Raises UsageError for a folder that is not a readable run.
    """
    for record in map(read, parts(run)):
        _say(console, headline(record), style="bold")
        if rows := _top(record)[:limit]:
            console.print(_table(record, rows))
        for note in [*record.notes, *(record.summary.get("notes") or [])]:
            _say(console, f"Note: {note}")
    report = run / "report.html"
    _say(console, f"Report: {report}" if report.is_file() else f"For the whole report: mnemoscope report {run}")


def plain(text: str) -> str:
    """The text on one line, without characters that steer a terminal or turn the writing direction."""
    kept = (" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or unicodedata.category(c) not in STEERING)
    return "".join(c for c in kept if c not in TURNING)


def _top(record: Record) -> list[Row]:
    if record.command == "detect":
        return record.ranked
    return sorted(record.done, key=lambda row: -2.0 if row["similarity"] is None else row["similarity"], reverse=True)


def _table(record: Record, rows: Sequence[Row]) -> Table:
    detected = record.command == "detect"
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column(Text(plain(record.method if detected else "similarity")), justify="right")
    table.add_column("flagged")
    if not detected:
        table.add_column("seed", justify="right")
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        value = row["score"] if detected else row["similarity"]
        flag = {True: Text("flagged", "bold red"), False: Text("no", "dim")}.get(row["flagged"] is True, Text(""))
        seed = [] if detected else [Text(plain(str(row["seed"])))]
        cells = [
            Text("-" if value is None else f"{value:.4g}"),
            flag if row["flagged"] is not None else Text("-"),
            *seed,
        ]
        table.add_row(*cells, Text(plain(row["prompt"])))
    return table


def _say(console: Console, text: object, style: str = "") -> None:
    console.print(Text(plain(str(text)), style), soft_wrap=True)
