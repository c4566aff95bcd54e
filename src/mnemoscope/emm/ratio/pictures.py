"""Generated images beside the two training images nearest to them, as files for a report."""

from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.generated_sets import GeneratedSet
from mnemoscope.emm.ratio.memorization import Memorization
from mnemoscope.run.writing import whole

FOLDER = "references"
LEAST_SIDE = 96  # pixels of a file; smaller images are enlarged by whole numbers


class PicturedPair(TypedDict):
    """An image, the names of the two training images nearest to it, its distances to them, and the three as files."""

    place: int
    file: str
    d1: float
    d2: float
    quotient: float
    memorized: bool
    files: dict[str, str]
    match: str
    other: str


def keep_pairs(
    folder: Path, each: GeneratedSet, memorization: Memorization, references: Images, most: int
) -> list[PicturedPair]:
    """Write the images with the smallest quotients, one of each training image, and say which files they are.

    The last third of the places is for the smallest quotients that are not memorized, on the other side of the line.
    """
    order = np.argsort(memorization.quotient_apart, kind="stable")
    is_memorized = memorization.memorized_apart[order]
    first = _of_each(order[is_memorized], memorization)[: most - most // 3]
    places = np.concatenate([first, _of_each(order[~is_memorized], memorization)[: most - len(first)]]).astype(np.int64)
    if not len(places):
        return []
    images = each.take(places.tolist())
    (folder / FOLDER).mkdir(exist_ok=True)
    rows: list[PicturedPair] = []
    for k, place in enumerate(places.tolist()):
        match, other = int(memorization.match[place]), int(memorization.other[place])
        shown = {"picture": images.picture(k), "match": references.picture(match), "other": references.picture(other)}
        files = {key: _write(folder, f"{k:03d}-{key}.png", image) for key, image in shown.items()}
        pair: PicturedPair = {
            "place": place,
            "file": images.names[k],
            "d1": float(memorization.nearest[place]),
            "d2": float(memorization.second_apart[place]),
            "quotient": float(memorization.quotient_apart[place]),
            "memorized": bool(memorization.memorized_apart[place]),
            "files": files,
            "match": references.names[match],
            "other": references.names[other],
        }
        rows.append(pair)
    return rows


def _of_each(places: np.ndarray, memorization: Memorization) -> np.ndarray:
    """The first of the places for each training image, in their order."""
    _, first = np.unique(memorization.match[places], return_index=True)
    return places[np.sort(first)]


def _write(folder: Path, name: str, image: Image.Image) -> str:
    scale = max(1, -(-LEAST_SIDE // max(image.size)))
    larger = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    with whole(folder / FOLDER / name) as partial:
        larger.save(partial, "PNG")
    return f"{FOLDER}/{name}"
