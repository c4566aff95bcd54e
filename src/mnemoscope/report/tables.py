"""What the terminal tables of all kinds of run share."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from mnemoscope.errors import plain

Column = tuple[str, str]  # name; "right", "left" or "fill" for the one that takes the width that is left


def table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], wrap: bool = False) -> Table:
    """A table whose cells cannot steer the terminal; texts are taken as they are, for what was made plain before."""
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    for name, place in columns:
        if place == "fill":
            made.add_column(cell(name), no_wrap=not wrap, overflow="fold" if wrap else "ellipsis", ratio=1)
        else:
            made.add_column(cell(name), justify="right" if place == "right" else "left")
    for row in rows:
        made.add_row(*(cell(each) for each in row))
    return made


def cell(value: str | Text, style: str = "") -> Text:
    """A value as a cell that cannot steer the terminal."""
    return value if isinstance(value, Text) else Text(plain(value), style)


def flag(flagged: object) -> Text:
    """Whether a prompt was flagged, in colour; a dash where nobody said."""
    return (
        {True: Text("flagged", "bold red"), False: Text("no", "dim")}.get(flagged is True, Text())
        if (flagged is not None)
        else Text("-")
    )
