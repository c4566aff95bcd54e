"""Prompts of a run: what one command found is what the next one is about."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import short
from mnemoscope.pictures.parquet import read_whole
from mnemoscope.pictures.rows import SourceRow
from mnemoscope.prompts.only import Only
from mnemoscope.run import several
from mnemoscope.run.reading import Json
from mnemoscope.run.records import read_record, read_rows
from mnemoscope.run.rows import ReadRow

REFERENCE = "reference_caption"  # the caption whose pictures are a prompt's own, where that is not its text


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run; RUN:METHOD stands for one of the methods of a run."""
    return os.path.isfile(several.split(path)[0] / "run.json")


def run_rows(folder: Path, only: Only | None = None) -> Iterator[SourceRow]:
    """Each prompt of a run once, with its label, kind and score: of a rewriting its rewrites, of a training its texts.

    A rewrite keeps the caption that it stands for as its `reference_caption`, so that it is compared with the same
    pictures. `only` keeps what a detection flagged or did not, of several methods the one that RUN:METHOD names; of a
    rewriting it gives the prompts before it, or both.
    Raises `UsageError` for a run that has none of these.
    """
    place, method = several.split(folder)
    record = read_record(place)
    command = record["command"]
    by_flag = only in ("flagged", "unflagged")
    if several.is_several(record) and (method or by_flag):
        method = several.one(place, record["methods"], method)
    if command == "audit":
        place, command = place / "detect", "detect"
    rows = _trained(place) if command == "train" else _listed(place, command, only, method)
    kept = [row for row in rows if not by_flag or _flag(folder, row) == (only == "flagged")]
    if not kept:
        raise UsageError(f"{folder} has no {only or 'usable'} prompts; give another run, or another --only.")
    for number, row in enumerate(kept, 1):
        yield f"{folder}, prompt {number}", row


def _listed(folder: Path, command: str, only: Only | None, method: str | None) -> Iterator[Json]:
    seen: set[tuple[str, str]] = set()
    every: Sequence[ReadRow] = read_rows(folder)
    scored = () if command == several.COMMAND and method is None else ("score", "flagged")  # whose, nobody says
    for row in every if method is None else several.rows_of(every, method):
        if row["status"] != "ok" or row.get("role") == "negative" or not isinstance(row.get("prompt"), str):
            continue
        for made in _rewriting(row, only) if command == "rewrite" else [_plain(row, scored)]:
            key = (made["caption"], str(row.get("prompt_id", row["id"])) if command != "rewrite" else "")
            if key not in seen:
                seen.add(key)
                yield made


def _plain(row: ReadRow, scored: Sequence[str]) -> Json:
    said = {k: row.get(k) for k in ("label", "kind", *scored, REFERENCE)}
    return {"caption": row["prompt"], **said, **{k: v for k, v in row.items() if k in ("seed", "seeds")}}


def _rewriting(row: ReadRow, only: Only | None) -> Iterator[Json]:
    if only in ("original", "both"):
        yield {"caption": row["prompt"]}
    if only != "original" and isinstance(row.get("rewrite"), str):
        yield {"caption": row["rewrite"], REFERENCE: row["prompt"], "level": row.get("level")}


def _trained(folder: Path) -> Iterator[Json]:
    try:
        rows = read_whole(folder / "manifest.parquet").to_pylist()
    except (pa.ArrowException, OSError, ValueError) as e:
        raise UsageError(f"{folder} has no manifest of its pictures ({short(e)}); train to the end.") from e
    for row in rows:
        for text in row.get("shown") or row.get("captions") or []:
            reference = {} if text in (row.get("captions") or []) else {REFERENCE: row.get("caption")}
            yield {"caption": text, "file": row["file"], **reference}


def _flag(folder: Path, row: ReadRow) -> bool:
    if not isinstance(row.get("flagged"), bool):
        raise UsageError(f"{folder} flags nothing: it has no threshold; calibrate it, or leave out --only.")
    return bool(row["flagged"])
