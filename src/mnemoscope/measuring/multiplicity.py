"""How often training data show what a reference shows: lists of duplicates, and manifests of trainings."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import short
from mnemoscope.pictures.parquet import read_whole, schema_of
from mnemoscope.run.reading import Json

FILES = ("duplicates.parquet", "duplicates.jsonl", "manifest.parquet")  # of a run of index duplicates, of train


@dataclass(frozen=True)
class Multiplicity:
    """How often training samples show what each reference shows, and how many of these samples are the reference's own.

    `copies` is the same for all references of a `group`, which show the same picture, and their `mass` together is one
    time `copies`. What the list does not name is not `listed`, and is a sample of its own.
    """

    copies: Float[np.ndarray, " M"]
    mass: Float[np.ndarray, " M"]
    group: Int[np.ndarray, " M"]
    listed: Bool[np.ndarray, " M"]


@dataclass(frozen=True, slots=True)
class _Entry:
    group: object
    copies: float  # of the whole group
    own: float  # of them this one's, up to a factor


def read_multiplicity(file: Path, keys: Sequence[str]) -> Multiplicity:
    """The multiplicity of references by their keys, from the lists of `index duplicates` or the manifest of a training.

    A folder is a run of either. Raises `UsageError` for anything else, and for a whole list that names no reference.
    """
    source = next((file / name for name in FILES if (file / name).is_file()), file) if file.is_dir() else file
    try:
        rows = _table(source)
        entries = _of_manifest(rows) if rows and "dup_group" in rows[0] else _of_list(rows)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, pa.ArrowException) as e:
        known = "give a run of index duplicates or of train"
        raise UsageError(f"{source} does not say how often images occur ({short(e)}); {known}.") from e
    if source.suffix == ".parquet" and entries.keys().isdisjoint(keys):
        first = next(iter(entries), "nothing")
        raise UsageError(
            f"{source} names none of the {len(keys)} references ({first}, not {keys[0]}); give its images."
        )
    return _shared([entries.get(key) for key in keys])


def _shared(entries: Sequence[_Entry | None]) -> Multiplicity:
    """Each group's copies shared out among those of its pictures that are references."""
    numbers: dict[object, int] = {}
    group = np.array(
        [numbers.setdefault((place,) if e is None else e.group, len(numbers)) for place, e in enumerate(entries)]
    )
    copies = np.array([1.0 if e is None else e.copies for e in entries])
    own = np.array([1.0 if e is None else e.own for e in entries])
    whole = np.bincount(group, weights=own)[group]
    share = np.divide(own, whole, out=np.zeros_like(own), where=whole > 0)
    return Multiplicity(copies, copies * share, group, np.array([e is not None for e in entries]))


def _of_list(rows: Iterable[Json]) -> dict[str, _Entry]:
    """A list that gives each picture the size of its group."""
    counts = {}
    for row in rows:
        count = float(row["count"])
        counts[str(row["key"])] = _Entry(row.get("group", row["key"]), count, 1.0)
    return counts


def _of_manifest(rows: Sequence[Json]) -> dict[str, _Entry]:
    """A manifest, whose pictures are shown by their copies and weights; of files of one name the first one's counts."""
    used = [row for row in rows if row["index"] is not None]
    mass = [float(row["copies"]) * float(row["weight"]) for row in used]
    whole: dict[int, float] = {}
    for row, weight in zip(used, mass, strict=True):
        whole[row["dup_group"]] = whole.get(row["dup_group"], 0.0) + weight
    entries: dict[str, _Entry] = {}
    for row, weight in zip(used, mass, strict=True):
        entries.setdefault(str(row["file"]), _Entry(row["dup_group"], whole[row["dup_group"]], weight))
    for row in rows:
        entries.setdefault(str(row["file"]), _Entry(("left out", row["file"]), 0.0, 0.0))
    return entries


def _table(source: Path) -> list[Any]:
    if source.suffix == ".parquet":
        names = set(schema_of(source).names)
        wanted = (
            ("index", "file", "copies", "weight", "dup_group") if "dup_group" in names else ("key", "group", "count")
        )
        return read_whole(source, [name for name in wanted if name in names]).to_pylist()
    return [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
