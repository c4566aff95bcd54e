"""A run opened in Python: its rows as a table, its summary, its images, its report."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mnemoscope.errors import UsageError
from mnemoscope.report.reading import headline, notes, parts, read
from mnemoscope.report.record import Record
from mnemoscope.run.reading import Json

if TYPE_CHECKING:
    import pandas


class OpenRun:
    """A run of any kind as it lies in its folder, read when it is asked for; a running one is read as far as it is.

    An audit has `parts`, runs of their own by name; its rows, summary and images are then those of its parts.
    Raises `UsageError` for a folder that holds no run, and for a run that was damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        found = parts(self.folder)
        self.parts = {path.name: OpenRun(path) for path in found} if found != [self.folder] else {}

    @cached_property
    def record(self) -> Record:
        """What run.json, rows.jsonl and summary.json hold."""
        if self.parts:
            names = ", ".join(self.parts)
            raise UsageError(f"{self.folder} is an audit; take one of its parts: {names}.")
        return read(self.folder)

    @cached_property
    def rows(self) -> "pandas.DataFrame":
        """One row for each prompt or image, failed ones among them; those of an audit say their `part`."""
        try:
            import pandas
        except ImportError as e:
            raise UsageError("Rows as a table need pandas; run pip install 'mnemoscope[pandas]'.") from e
        if self.parts:
            whole = [part.rows.assign(part=name) for name, part in self.parts.items()]
            return pandas.concat(whole, ignore_index=True)
        return pandas.DataFrame(self.record.rows)

    @property
    def summary(self) -> Json:
        """The figures of the whole run, or those of an audit's parts by name; empty while it is running."""
        return {name: p.summary for name, p in self.parts.items()} if self.parts else dict(self.record.summary)

    @property
    def images(self) -> list[Path]:
        """The images that the run wrote, in the order of their names."""
        inside = [image for part in self.parts.values() for image in part.images]
        return inside or sorted(p for p in (self.folder / "images").rglob("*.png") if p.is_file())

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        return " ".join(p.headline for p in self.parts.values()) if self.parts else headline(self.record)

    @property
    def notes(self) -> list[str]:
        """What has to be known beside the figures."""
        return [n for p in self.parts.values() for n in p.notes] if self.parts else notes(self.record)

    def report(self, out: Path | str | None = None) -> Path:
        """Write the run as one HTML page and return its path, `report.html` in the run's folder unless told."""
        from mnemoscope.report.page import write

        return write([self.folder], None if out is None else Path(out))

    def __repr__(self) -> str:
        return f"OpenRun({str(self.folder)!r}: {self.headline})"


def open_run(folder: Path | str) -> OpenRun:
    """A run of any kind, from its folder; `mnemoscope.open` is this function.

    Raises `UsageError` for a folder that holds no run.
    """
    return OpenRun(folder)
