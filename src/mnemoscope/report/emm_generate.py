"""Images drawn from a trained network: how they look, and what they took."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

CAVEAT = "Nothing was compared with training images here; emm ratio says how many are copies."
SHOWN = 200  # images of a page


def check(raw: Json) -> Json:
    """A row of one image; one without a file is a failure."""
    row = checked(raw) | {"file": str(raw.get("file") or ""), "class": number(raw.get("label"))}
    return row if row["file"] else failed(row, "it names no file")


def headline(record: Record) -> str:
    """How many images there are, and from where."""
    source = str(record.part("settings").get("network") or "a network")
    return f"{counted(len(record.done), 'image')} drawn from {source}."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """Which weights drew them, and that a seed is an image."""
    settings = record.part("settings")
    said = f"Weights {str(settings.get('weights_sha256'))[:12]}, snapshot {settings.get('snapshot')}. "
    return [("The images", {}, said + "A seed gives the same image in any batch and with any number of processes.")]


def cards(record: Record) -> list[Card]:
    """How often the network was asked for an image."""
    evaluations, images = number(record.summary.get("network_evaluations")), len(record.done)
    if not evaluations or not images:
        return []
    return [("Network evaluations", f"{evaluations:,.0f}", f"{evaluations / images:.1f} an image")]


def drawings(record: Record) -> Drawings:
    """Images need no figure."""
    return iter(())


def sections(record: Record) -> list[Section]:
    """The first images."""
    rows = [row | {"picture": picture(record.path, row["file"])} for row in record.done[:SHOWN]]
    content = {"rows": rows, "left": len(record.done) - len(rows)}
    return [Section("emm_images.html", content)] if rows else []


def caveats(record: Record) -> list[str]:
    """That nothing was compared."""
    return (
        ["Nothing was compared with training images here; emm ratio says how many are copies."] if record.done else []
    )


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The first images by their files."""
    columns = [("seed", "right"), ("label", "right"), ("file", "fill")]
    cells: list[list[str | Text]] = [
        [str(row["seed"]), shown(row["class"], "{:.0f}"), cell(row["file"])] for row in record.done[:limit]
    ]
    return terminal_table(columns, cells) if cells else None
