"""Generated images beside their nearest reference and their unmitigated twin, as blocks of a page."""

from pathlib import Path

import numpy as np

from mnemoscope.report.pictures import picture
from mnemoscope.report.record import Record, grouped
from mnemoscope.report.text import counted, number
from mnemoscope.run.reading import Json

GALLERY_PROMPTS, GALLERY_IMAGES = 100, 12
PICTURES = (("picture", "file"), ("reference", "match"), ("plain", "baseline"))
GATE = {"score", "threshold", "flagged", "mitigation", "used_prompt"}  # the rest of what was seen is a mitigation's


def gallery(record: Record) -> tuple[list[Json], list[str]]:
    """One block per prompt with its images, flagged and high scores first; and notes on what is not shown."""
    order = sorted(grouped(record.done, lambda row: row["prompt_id"]).values(), key=_rank, reverse=True)
    blocks = [_block(record.path, members) for members in order[:GALLERY_PROMPTS]]
    lost = sum(tile[key] is None and bool(tile[name]) for b in blocks for tile in b["tiles"] for key, name in PICTURES)
    notes = [f"The gallery shows {GALLERY_PROMPTS} of {len(order):,} prompts."] if len(order) > len(blocks) else []
    if lost:
        notes.append(
            f"{counted(lost, 'image')} of the gallery could not be shown: missing, unreadable or outside the run."
        )
    return blocks, notes


def said_of(seen: Json) -> list[str]:
    """What each mitigation says it did: a history as where it began and ended, a number as it is."""
    said = []
    for name, own in seen.items():
        for key, value in own.items() if name not in GATE and isinstance(own, dict) else ():
            history = [v for each in value if (v := number(each)) is not None] if isinstance(value, list) else []
            if history:
                updates = counted(len(history) - 1, "update")
                said.append(f"{name}: {key} {history[0]:.4g} → {history[-1]:.4g} in {updates}")
            elif (alone := number(value)) is not None:
                said.append(f"{name}: {key.replace('_', ' ')} {alone:.4g}")
    return said


def _rank(block: list[Json]) -> tuple[bool, float, float]:
    score, similarity = (-np.inf if block[0][key] is None else block[0][key] for key in ("score", "similarity"))
    return any(row["flagged"] is True for row in block), score, similarity


def _block(folder: Path, members: list[Json]) -> Json:
    """A prompt with its first images, those with one reference side by side."""
    tiles = [_tile(folder, row) for row in members[:GALLERY_IMAGES]]
    flags = [row["flagged"] for row in members]
    own: Json = {
        "flagged": next((told for told in (True, False) if told in flags), None),
        "total": len(members),
        "tiles": tiles,
        "sets": list(grouped(tiles, lambda tile: tile["match"]).values()),
        "names": list(dict.fromkeys(name for tile in tiles for name in tile["mitigation"])),
        "is_left": any(tile["mitigated"] for tile in tiles) and not any(tile["mitigation"] for tile in tiles),
        "own_scores": len({tile["score"] for tile in tiles}) > 1,
    }
    return members[0] | own


def _tile(folder: Path, row: Json) -> Json:
    used = row["seen"].get("used_prompt")
    known = {"done": said_of(row["seen"]), "used": used if isinstance(used, str) and used != row["prompt"] else None}
    return row | {key: picture(folder, row[name]) if row[name] else None for key, name in PICTURES} | known
