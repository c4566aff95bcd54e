"""The images that are copies, each with what is needed to look at it: prompt, seed, training file, similarity."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mnemoscope.gate.evidence import Part, is_copy, memorized
from mnemoscope.run.asked import parameters
from mnemoscope.run.rows import ReadRow


@dataclass(frozen=True)
class Leak:
    """A generated image that a run calls a copy; `similarity` is None where the run compares by distances."""

    image: str
    prompt: str
    seed: int | None
    training_file: str
    similarity: float | None
    preset: str


COLUMNS = tuple(Leak.__annotations__)


def leaks(parts: Sequence[Part]) -> list[Leak]:
    """All copies that the runs name, most similar first, those of memorization ratios behind them."""
    found = [leak for part in parts for leak in _of(part)]
    return sorted(found, key=lambda leak: (leak.similarity is None, -(leak.similarity or 0.0), leak.image))


def _of(part: Part) -> Iterator[Leak]:
    for row in part.done:
        if part.command == "measure" and is_copy(row, part):
            yield _leak(row, part, row["score"])
        elif part.command == "emm-ratio" and memorized(row, part):
            yield _leak(row, part, None)


def _leak(row: ReadRow, part: Part, similarity: float | None) -> Leak:
    seed, match = row.get("seed"), row.get("match")
    return Leak(
        _place(str(row["file"]), part),
        str(row.get("prompt") or ""),
        seed if type(seed) is int else None,
        "" if match is None else str(match),
        similarity,
        part.preset or "",
    )


def _place(file: str, part: Part) -> str:
    """The image's path, where it can be told: in the audit, or in the source that the run was given."""
    source = parameters(part.record).get("generated")
    for folder in (part.root / "generate", *([Path(source)] if isinstance(source, str) else [])):
        if (folder / file).is_file():
            return (folder / file).as_posix()
    return file


def table(found: Sequence[Leak]) -> str:
    """The copies as comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(leak) for leak in found)
    return text.getvalue()
