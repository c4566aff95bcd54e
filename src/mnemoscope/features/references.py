"""Training images to compare with: a folder of images, with captions where `captions.jsonl` gives them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, UnidentifiedImageError

from mnemoscope import features
from mnemoscope.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


@dataclass(frozen=True)
class Reference:
    """A training image: its file, and its caption and kind where they are known."""

    file: Path
    caption: str | None = None
    kind: str | None = None

    def image(self) -> Image.Image:
        with Image.open(self.file) as picture:
            return picture.convert("RGBA" if features.transparent(picture) else "RGB")


class References:
    """Reference images with their pixel vectors; files that are not readable images are listed in `unread`."""

    def __init__(self, references: Sequence[Reference]) -> None:
        self.items: list[Reference] = []
        self.unread: list[str] = []
        vectors = []
        for reference in references:
            try:
                vectors.append(features.pixels([reference.image()]))
                self.items.append(reference)
            except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
                self.unread.append(reference.file.name)
        if not vectors:
            raise UsageError("None of the references is a readable image; give a folder of images as --references.")
        self.vectors = np.concatenate(vectors)
        self.by_caption = {r.caption: i for i, r in enumerate(self.items) if r.caption}

    def nearest(self, images: Sequence[Image.Image]) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Index of the most similar reference of each image, and the cosine of their pixel vectors."""
        similarity = features.pixels(images) @ self.vectors.T
        best = similarity.argmax(axis=1)
        return best, similarity[np.arange(len(best)), best]

    def own(self, image: Image.Image, caption: str) -> float | None:
        """Cosine with the reference that has the same caption, if there is one."""
        index = self.by_caption.get(caption)
        return None if index is None else float((features.pixels([image]) @ self.vectors[index])[0])


def read_references(folder: Path) -> References:
    """The images of a folder and of its sub-folders; raises `UsageError` if there is none."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give a folder of images as --references.")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise UsageError(f"{folder} holds no image ({', '.join(SUFFIXES)}); give a folder of images as --references.")
    said = _captions(folder / "captions.jsonl")
    return References([Reference(f, **said.get(f.relative_to(folder).as_posix(), {})) for f in files])


def _captions(file: Path) -> dict[str, dict[str, str]]:
    if not file.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        return {r["file"]: {k: r[k] for k in ("caption", "kind") if r.get(k)} for r in rows}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{file} needs one object a line, with file and caption; it could not be read: {e}") from e
