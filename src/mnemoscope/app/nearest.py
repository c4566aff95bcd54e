"""Pictures held against the training pictures: the nearest of each, and whether it is a copy."""

import shutil
from pathlib import Path
from typing import cast

from mnemoscope.app.desk import Desk
from mnemoscope.app.subject import Told
from mnemoscope.errors import UsageError
from mnemoscope.report.pictures import picture
from mnemoscope.run.progress import hushed
from mnemoscope.run.run import read_rows
from mnemoscope.search import run_search

NOTHING = "There are no training pictures to compare with; start the page with --references or --index."


def nearest(desk: Desk, queries: Path, folder: Path, k: int = 3) -> dict[str, Told]:
    """By file name: the nearest training pictures of each picture of a file or folder, nearest first, and a verdict.

    Raises `UsageError` where there is nothing to compare with, and for pictures of which none can be read.
    """
    if desk.lookout is None:
        raise UsageError(NOTHING)
    look = desk.lookout
    run_search(look.index.folder, queries, folder, look.features, k=k)
    found: dict[str, Told] = {}
    for row in cast(list[Told], read_rows(folder)):
        own = found.setdefault(row["file"], {"matches": [], "error": None, "picture": None})
        if row["status"] != "ok":
            own["error"] = str(row["error"])
            continue
        own["picture"] = own["picture"] or picture(folder, row.get("picture"))
        if row["match"] is not None:
            own["matches"].append(_told(folder, row, look.similarity))
    for own in found.values():
        own["copied"] = any(match["copied"] for match in own["matches"])
    return found


def _told(folder: Path, row: Told, limit: float) -> Told:
    return {
        "similarity": row["score"],
        "copied": row["score"] > limit,
        "file": row["match"],
        "caption": row["caption"] or "",
        "picture": picture(folder, row.get("match_picture")),
    }


def check(desk: Desk, upload: Path, folder: Path) -> Told:
    """What a picture of a person's own is nearest to; raises `UsageError` for a file that is no picture.

    Nothing of it is kept: the folder goes again.
    """
    try:
        with hushed():
            (found,) = nearest(desk, upload, folder, k=6).values()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if found["error"]:
        raise UsageError(f"{upload.name} cannot be read as a picture ({found['error']}); give a PNG, JPEG or WebP.")
    return {"name": upload.name, **found, "compared": desk.compared_by}
