"""Rows of the probes of a training in its run folder: their file, and their values by group and step."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from mnemoscope.run.rows import ReadRow
from mnemoscope.run.run import read_table, write_table
from mnemoscope.run.training_rows import ProbeRow

FILE = "probes.jsonl"
OWN = "own_similarity"


def probed(rows: Sequence[ReadRow], name: str) -> dict[str, dict[int, Float[np.ndarray, " N"]]]:
    """Values of a detector, or of `own_similarity`, by group and step; one without a single value is left out."""
    by_group: dict[str, dict[int, Float[np.ndarray, " N"]]] = {}
    for group in dict.fromkeys(str(row.get("group")) for row in rows):
        of_group = [row for row in rows if str(row.get("group")) == group]
        by_step = {
            s: values_of([r for r in of_group if r["step"] == s], name) for s in sorted({r["step"] for r in of_group})
        }
        if kept := {step: values for step, values in by_step.items() if values.size}:
            by_group[group] = kept
    return by_group


def values_of(rows: Sequence[ReadRow], name: str) -> Float[np.ndarray, " N"]:
    """Values of a detector, or of `own_similarity` (once a probe), in rows of one step and group."""
    first = rows[0].get("detector") if rows else None
    wanted, key = (first, OWN) if name == OWN else (name, "score")
    values = [row.get(key) for row in rows if row.get("detector") == wanted]
    return np.array([v for v in values if isinstance(v, int | float) and math.isfinite(v)], dtype=np.float64)


def read_probes(folder: Path) -> list[ProbeRow]:
    """Rows of the probes of a run so far; none where there is no file."""
    return cast(list[ProbeRow], read_table(folder / FILE))


def write_probes(folder: Path, step: int, rows: Sequence[ProbeRow]) -> None:
    """Write the rows of a step behind those of earlier steps; those of an earlier session from there on are gone."""
    before = [row for row in read_probes(folder) if row["step"] < step]
    write_table(folder / FILE, [*before, *rows])
