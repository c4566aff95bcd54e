"""The logged losses of a training: means over some steps, in a file of their own."""

from pathlib import Path
from typing import cast

from mnemoscope.run.emm_rows import LossRow
from mnemoscope.run.run import read_table, write_table

FILE = "losses.jsonl"


class Losses:
    """Rows of `losses.jsonl`, in memory until they are written; none is written without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.rows: list[LossRow] = []

    def begin(self, step: int) -> None:
        """Take up those of an earlier session, but for steps that have to be done again."""
        self.rows = [row for row in read_losses(self.folder) if row["step"] <= step] if self.folder else []

    def add(self, row: LossRow) -> None:
        """Keep a row until it is written."""
        self.rows.append(row)

    def write(self) -> None:
        """Write all rows, whole or not at all."""
        if self.folder is not None:
            write_table(self.folder / FILE, self.rows)


def read_losses(folder: Path) -> list[LossRow]:
    """The logged losses of a run so far; none where there is no file."""
    return cast(list[LossRow], read_table(folder / FILE))
