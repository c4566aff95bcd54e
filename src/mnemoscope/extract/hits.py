"""The list of what was found, `hits.jsonl`: each prompt with its evidence, and all that is needed to draw it again."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, cast

from mnemoscope.errors import UsageError
from mnemoscope.extract.search import Search
from mnemoscope.extract.settings import Extraction
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.extract_rows import ExtractRow
from mnemoscope.run.reading import Json, read_table
from mnemoscope.run.run import write_table
from mnemoscope.run.schema import misfit_fields

EVIDENCE = "prompt score seeds alike distances clique edges agreement file files match match_caption similarities"


class DrawnWith(TypedDict):
    """How the images of a hit were drawn and compared."""

    images: int
    least: int
    below: float
    tiles: int
    num_inference_steps: int
    guidance_scale: float


class HitLine(TypedDict):
    """What a line of the list needs to be drawn again."""

    prompt: str
    seeds: list[int]
    drawn_with: DrawnWith
    model: str
    weights_hash: str


def write_hits(folder: Path, search: Search, model: Denoiser) -> None:
    """Write the hits of a search, in the order in which they were found."""
    others = [row for row in search.rows if row.get("hit") and row.get("hit_of") != row["prompt_id"]]
    found = zip(search.hits, search.found, strict=True)
    write_table(folder / "hits.jsonl", [hit_of(row, spent, others, search.extraction, model) for row, spent in found])


def hit_of(row: ExtractRow, spent: int, others: Sequence[ExtractRow], extraction: Extraction, model: Denoiser) -> Json:
    """A line of the list; `evaluations` is what was spent when it was found."""
    with_it = [o["prompt"] for o in others if o.get("hit_of") == row["prompt_id"]]
    settings = {name: value for name, value in asdict(extraction).items() if name in DrawnWith.__annotations__}
    return {
        "id": row["prompt_id"],
        **{name: row[name] for name in EVIDENCE.split() if name in row},  # type: ignore[literal-required]
        "other_prompts": with_it,
        "evaluations": spent,
        "drawn_with": settings,
        "size": list(model.size),
        "model": model.source,
        "weights_hash": model.weights_hash,
    }


def read_hits(file: Path) -> list[Json]:
    """The lines of a list; raises `UsageError` for one that lacks what is needed to draw it again, or misstates it."""
    rows: list[Any] = [dict(row) for row in read_table(file)]
    for number, row in enumerate(rows, 1):
        if why := misfit_fields(row, HitLine) or _nothing_to_draw(row):
            raise UsageError(f"Line {number} of {file} is no hit ({why}); give a hits.jsonl that extract wrote.")
    if not rows:
        raise UsageError(f"{file} lists no hits; there is nothing to verify.")
    return cast(list[Json], rows)


def _nothing_to_draw(row: Json) -> str | None:
    if not row["prompt"].strip():
        return "its prompt is empty"
    images = row["drawn_with"].get("images")
    if len(row["seeds"]) != images or min(row["seeds"], default=0) < 0:
        return f"it has {len(row['seeds'])} seeds, and needs {images} from 0 on"
    return None
