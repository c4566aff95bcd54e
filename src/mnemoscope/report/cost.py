"""What a mitigation takes from copying and what it costs: the same seeds without and with it, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnemoscope.report.alignment import Alignment, alignment, is_destroyed
from mnemoscope.report.groups import is_copy
from mnemoscope.report.record import Record, Section
from mnemoscope.run.parts import MITIGATED
from mnemoscope.run.reading import Json

UNMEASURED = "Whether these images still show what was asked for was not measured; give --alignment."


@dataclass(frozen=True)
class Side:
    """The images of one side: how many are copies, how alike to training pictures they are, what they show."""

    name: str
    images: int
    copies: int
    similarity: float
    own: float | None
    alignment: Alignment | None

    @property
    def copied(self) -> str:
        """The copies as a count."""
        return f"{self.copies:,} of {self.images:,}"


@dataclass(frozen=True)
class Cost:
    """A mitigation's two sides."""

    before: Side
    after: Side

    @property
    def is_destroyed(self) -> bool:
        """Whether what images show has sunk to chance."""
        before, after = (side.alignment.above if side.alignment else None for side in (self.before, self.after))
        return is_destroyed(before, after)

    @property
    def sentence(self) -> str:
        """What the mitigation did, in one sentence that never calls a destroyed image a success."""
        before, after = self.before, self.after
        copied = f"under {after.name} {after.copied} images are copies ({before.copied} without it)"
        if after.alignment is None or before.alignment is None:
            return f"{copied[0].upper()}{copied[1:]}. {UNMEASURED}"
        of, chance = before.alignment.said, after.alignment.by_chance
        told = f"({of} without it{f', {chance} by chance' if chance else ''})"
        found = after.alignment.said
        shown = f"alignment is {found} {told}" if after.alignment.shown is None else f"{found} show their prompt {told}"
        if self.is_destroyed:
            return f"Destroyed, which is no success: {copied}, but {shown}."
        return f"{copied[0].upper()}{copied[1:]}, and {shown}."


def cost(records: Sequence[Record]) -> Cost | None:
    """The two sides of an audit's mitigation; None where either was not measured."""
    plain = next((r for r in records if r.command == "measure" and r.path.name == "measure"), None)
    mitigated = next((r for r in records if r.command == "measure" and r.path.name == MITIGATED), None)
    if plain is None or mitigated is None:
        return None
    after = {row["file"]: row for row in mitigated.done if row["score"] is not None and row["mitigation"]}
    before = [row for row in plain.done if row["file"] in after and row["score"] is not None]
    if not before:
        return None
    rows = [after[row["file"]] for row in before]
    names = list(dict.fromkeys(name for row in rows for name in row["mitigation"]))
    said = " and ".join(name.replace("_", " ") for name in names)
    return Cost(_side("no mitigation", plain, before), _side(said, mitigated, rows))


def section(found: Cost) -> Section:
    """Both sides in a table."""
    sides = [(found.before, False), (found.after, found.is_destroyed)]
    has_alignment = any(side.alignment for side, _ in sides)
    return Section("cost.html", {"sides": sides, "sentence": found.sentence, "has_alignment": has_alignment})


def _side(name: str, record: Record, rows: list[Json]) -> Side:
    own = [row["own_score"] for row in rows if row["own_score"] is not None]
    return Side(
        name,
        len(rows),
        sum(is_copy(record, row) for row in rows),
        float(np.mean([row["score"] for row in rows])),
        float(np.mean(own)) if own else None,
        alignment(rows),
    )
