"""A run in the terminal: its headline, its most telling rows, its notes; captions cannot steer the terminal."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mnemoscope.errors import plain
from mnemoscope.report.kinds import KINDS
from mnemoscope.report.reading import headline, notes, read_all
from mnemoscope.report.text import counted

REASONS, LONGEST_REASON = 5, 300  # of failed rows, the most frequent ones


def print_run(run: Path, console: Console, limit: int = 10) -> None:
    """Print what a run found: a sentence, the `limit` most telling rows, why others failed, notes, where its report is.

    All parts of an audit are printed, the later ones with half as many rows. Raises UsageError for a folder that is not
    a readable run.
    """
    for place, record in enumerate(read_all(run)):
        _say(console, headline(record), style="bold")
        if (table := KINDS[record.command].table(record, limit if place < 2 else limit // 2, console)) is not None:
            console.print(table)
        for reason, count in Counter(str(row.get("error")) for row in record.failures).most_common(REASONS):
            _say(console, f"Failed, {counted(count, 'row')}: {reason[:LONGEST_REASON]}")
        for note in notes(record):
            _say(console, f"Note: {note}")
    report = run / "report.html"
    _say(console, f"Report: {report}" if report.is_file() else f"For the whole report: mnemoscope report {run}")


def _say(console: Console, text: object, style: str = "") -> None:
    console.print(Text(plain(str(text)), style), soft_wrap=True)
