"""Rows of a measurement: each image with its nearest references, and small pictures of those that a report shows."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.pictures import Unreadable
from mnemoscope.run.image_rows import MeasureRow, NearestReference
from mnemoscope.run.rows import Neighbour
from mnemoscope.run.writing import whole

THUMBNAIL, TINY = 160, 64  # pixels of the longer side; below the latter nothing is lost


def image_rows(
    folder: Path, comparison: Comparison, measured: Mapping[str, Measured], gallery: int
) -> Iterator[MeasureRow]:
    """One row for each image, in order, with the columns of all measures.

    The `gallery` images nearest to a reference are kept small in the run, with the references that they are nearest to.
    """
    columns = {name: values for each in measured.values() for name, values in each.columns.items()}
    shown = shown_images(comparison, gallery)
    thumbnails = Thumbnails(folder, comparison)
    for k, generated in enumerate(comparison.generated):
        key = generated.picture.key
        row: MeasureRow = {
            "id": key,
            "file": key,
            "prompt": generated.prompt or "",
            "prompt_id": generated.prompt_id,
            "seed": generated.seed,
            "kind": generated.kind,
            "label": generated.label,
            "mitigation": list(generated.mitigation),
            "status": "ok",
        }
        if comparison.corpus is not None:
            row = {**row, **matched(comparison, k, thumbnails if k in shown else None)}
        if k in shown:
            row["picture"] = thumbnails.of_generated(k)
        yield cast(MeasureRow, {**row, **{name: plain(values[k]) for name, values in columns.items()}})


def matched(comparison: Comparison, k: int, thumbnails: "Thumbnails | None") -> NearestReference:
    """The nearest references of an image, the nearest one by name, and the image's own."""
    scores, positions = (side[k].tolist() for side in comparison.nearest)
    similarities = comparison.own_similarity[k]
    near = [_neighbour(comparison, k, p, s, thumbnails) for p, s in zip(positions, scores, strict=True)]
    return {
        "match": near[0]["match"],
        "match_caption": near[0]["caption"],
        "score": near[0]["score"],
        "own_score": float(similarities.max()) if len(similarities) else None,
        "neighbours": near,
    }


def _neighbour(
    comparison: Comparison, k: int, position: int, score: float, thumbnails: "Thumbnails | None"
) -> Neighbour:
    corpus = comparison.references
    captions = corpus.captions[position]
    return {
        "match": corpus.keys[position],
        "score": score,
        "caption": captions[0] if captions else None,
        "is_own": position in comparison.own[k],
        "picture": thumbnails.of_reference(position) if thumbnails else None,
    }


def shown_images(comparison: Comparison, most: int) -> set[int]:
    """Which images a report shows: those most similar to a reference; the first ones where there is none."""
    if comparison.corpus is None:
        return set(range(min(most, len(comparison.generated))))
    return set(np.argsort(-comparison.nearest[0][:, 0], kind="stable")[:most].tolist())


class Thumbnails:
    """Small copies of images inside a run, each written once."""

    def __init__(self, folder: Path, comparison: Comparison) -> None:
        self.folder, self.comparison = folder, comparison
        self.names: dict[str, str | None] = {}

    def of_generated(self, k: int) -> str | None:
        return self._save(f"images/{k:06d}", lambda: self.comparison.generated[k].picture.image())

    def of_reference(self, position: int) -> str | None:
        return self._save(f"references/{position:08d}", lambda: self.comparison.references.image(position))

    def _save(self, stem: str, image: Callable[[], Image.Image | None]) -> str | None:
        if stem not in self.names:
            try:
                opened = image()
            except Unreadable:  # it was read before, so it has just gone: its row stays, its picture does not
                opened = None
            self.names[stem] = None if opened is None else self._written(stem, opened)
        return self.names[stem]

    def _written(self, stem: str, image: Image.Image) -> str:
        is_tiny = max(image.size) <= TINY
        small, name = image.copy(), f"{stem}.{'png' if is_tiny else 'jpg'}"
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        with whole(self.folder / name) as partial:
            small.save(partial, "PNG" if is_tiny else "JPEG")
        return name


def plain(value: Any) -> Any:
    """A value as JSON has it; a number that is none becomes None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
