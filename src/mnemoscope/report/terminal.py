"""A run in the terminal: its headline, its most telling rows, its notes; captions cannot steer the terminal."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from mnemoscope.errors import plain
from mnemoscope.report.kinds import KINDS
from mnemoscope.report.reading import headline, notes, parts, read


def print_run(run: Path, console: Console, limit: int = 10) -> None:
    """Print what a run found: one sentence, the `limit` most telling rows, the notes, and where its report is.

    All parts of an audit are printed, the later ones with half as many rows. Raises UsageError for a folder that is not
    a readable run.
    """
    for place, record in enumerate(map(read, parts(run))):
        _say(console, headline(record), style="bold")
        if (table := KINDS[record.command].table(record, limit if place < 2 else limit // 2, console)) is not None:
            console.print(table)
        for note in notes(record):
            _say(console, f"Note: {note}")
    report = run / "report.html"
    _say(console, f"Report: {report}" if report.is_file() else f"For the whole report: mnemoscope report {run}")


def _say(console: Console, text: object, style: str = "") -> None:
    console.print(Text(plain(str(text)), style), soft_wrap=True)
