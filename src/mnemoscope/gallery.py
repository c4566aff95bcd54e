"""Generated images beside their nearest reference, as blocks of a page."""

import base64
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnemoscope.headline import Record, Row, counted

GALLERY_PROMPTS, GALLERY_IMAGES = 100, 12
THUMBNAIL, LARGEST = 320, 64_000_000  # pixels of a side, pixels in all
PICTURES = (("picture", "file"), ("reference", "match"))


def gallery(records: list[Record]) -> tuple[list[Row], list[str]]:
    """One block per prompt with its images, flagged and high scores first; and notes on what is not shown."""
    prompts: dict[Any, list[tuple[Path, Row]]] = {}
    for record in records:
        for row in record.done if record.command == "generate" else ():
            prompts.setdefault(row["prompt_id"], []).append((record.path, row))
    order = sorted(prompts.values(), key=lambda block: _rank(block[0][1]), reverse=True)
    blocks = [{**block[0][1], "total": len(block)} for block in order[:GALLERY_PROMPTS]]
    for block, members in zip(blocks, order, strict=False):
        block["tiles"] = tiles = [_tile(folder, row) for folder, row in members[:GALLERY_IMAGES]]
        matches = dict.fromkeys(tile["match"] for tile in tiles)
        block["sets"] = [[tile for tile in tiles if tile["match"] == match] for match in matches]
    lost = sum(tile[key] is None and bool(tile[name]) for b in blocks for tile in b["tiles"] for key, name in PICTURES)
    notes = [f"The gallery shows {GALLERY_PROMPTS} of {len(order):,} prompts."] if len(order) > len(blocks) else []
    if lost:
        notes.append(
            f"{counted(lost, 'image')} of the gallery could not be shown: missing, unreadable or outside the run."
        )
    return blocks, notes


def _rank(row: Row) -> tuple[bool, float, float]:
    score, similarity = (-np.inf if row[key] is None else row[key] for key in ("score", "similarity"))
    return row.get("flagged") is True, score, similarity


def _tile(folder: Path, row: Row) -> Row:
    return row | {key: _picture(folder, row[name]) for key, name in PICTURES}


def _picture(folder: Path, name: object) -> str | None:
    """A small copy of an image as a data URI; None unless it is a readable image inside the folder."""
    try:
        path = (folder / str(name)).resolve()
        if not (path.is_relative_to(folder.resolve()) and path.is_file()):
            return None
        with warnings.catch_warnings(action="error"), Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > LARGEST:
                return None
            is_small = max(image.size) <= THUMBNAIL
            copy = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None
    copy.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer, kind = io.BytesIO(), "png" if is_small else "jpeg"
    copy.save(buffer, kind, optimize=True)
    return data_uri(buffer.getvalue(), kind)


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
