"""Repair runs: the channels of a LoRA that leave the base's principal subspace, layer by layer."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

NUMBERS = ("rank", "damped", "subspace", "norm_before", "norm_after")
CAVEATS = [
    "What is damped is found from the weights alone: no picture says that it held a memory, or that what was kept "
    "holds none. Audit the repaired LoRA beside the first one, and search for embeddings that bring pictures back "
    "(recover).",
]
PAPER = {"name": "damping outside the principal subspace", "paper": "arXiv:2605.10439"}
PAPER |= {"summary": "A channel of an update is kept where it reads and writes what the base weight reads and writes."}


def check(raw: Json) -> Json:
    """A row with its counts, norms and alignments."""
    row = checked(raw) | {name: number(raw.get(name)) for name in NUMBERS}
    row |= {"alignments": [v for each in listed(raw.get("alignments")) if (v := number(each)) is not None]}
    row["kept"] = (
        row["norm_after"] / row["norm_before"] if row["norm_before"] and row["norm_after"] is not None else None
    )
    if row["status"] == "ok" and any(row[name] is None for name in NUMBERS):
        return failed(row, "the row has no counts of channels")
    return row


def headline(record: Record) -> str:
    """How many channels were damped."""
    channels, hit = (int(sum(row[name] for row in record.done)) for name in ("rank", "damped"))
    kept = shown(record.summary.get("norm_kept"), "{:.2f}")
    layers = counted(len(record.done), "layer")
    return f"{hit:,} of {counted(channels, 'channel')} in {layers} were damped; {kept} of the update's norm is left."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """The rule and its numbers."""
    settings = record.part("settings")
    energy, least, factor = (shown(settings.get(key), "{:g}") for key in ("energy", "least_alignment", "factor"))
    said = f"The subspace holds {energy} of a weight's squared norm; channels aligned with it by less than {least} are "
    return [("How it was repaired", PAPER, f"{said}multiplied by {factor}.")]


def cards(record: Record) -> list[Card]:
    """Nothing beyond the headline."""
    return []


def drawings(record: Record) -> Drawings:
    """No figures."""
    yield from ()


def sections(record: Record) -> list[Section]:
    """The layers, those first of which least is left."""
    return [Section("repair.html", {"rows": _ranked(record)})] if record.done else []


def caveats(record: Record) -> list[str]:
    """What a rule on weights cannot know."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The layers of which least is left."""
    rows: list[list[str | Text]] = [
        [f"{row['damped']:.0f} of {row['rank']:.0f}", shown(row["kept"], "{:.2f}"), _range(row), row["id"]]
        for row in _ranked(record)[:limit]
    ]
    columns = [("damped", "right"), ("norm left", "right"), ("alignments", "left"), ("layer", "fill")]
    return terminal_table(columns, rows) if rows else None


def _ranked(record: Record) -> list[Json]:
    rows = sorted(record.done, key=lambda row: (1.0 if row["kept"] is None else row["kept"], row["id"]))
    return [row | {"range": _range(row)} for row in rows]


def _range(row: Json) -> str:
    values = row["alignments"]
    return f"{min(values):.2f} to {max(values):.2f}" if values else "–"
