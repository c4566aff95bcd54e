"""Copies of known degree: trained pictures, and pictures that never were, under the same changes."""

import io
import zlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mnemoscope.bench.truth import TRAINED, TWIN, TWINS, TruePrompt, Truth, entries_of
from mnemoscope.pictures import Picture, decoded, read_pictures
from mnemoscope.pictures.columns import folded

Change = Callable[[Image.Image, Image.Image], Image.Image]  # of a picture, and of another one to paste it on


def _jpeg(image: Image.Image, _: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=20)
    return decoded(buffer.getvalue())


def _noisy(image: Image.Image, _: Image.Image) -> Image.Image:
    """Normal noise of 25 grey levels, another one for each picture and always the same one for it."""
    pixels = np.asarray(image, np.float64)
    noise = np.random.default_rng(zlib.crc32(image.tobytes())).normal(0, 25, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).round().astype(np.uint8))


def _recoloured(image: Image.Image, _: Image.Image) -> Image.Image:
    paler = ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.25)).enhance(0.4)
    return ImageEnhance.Contrast(paler).enhance(0.8)


def _cropped(share: float) -> Change:
    """The middle of a picture, enlarged to its size."""

    def change(image: Image.Image, _: Image.Image) -> Image.Image:
        (width, height), (left, top) = image.size, (round(side * (1 - share) / 2) for side in image.size)
        return image.crop((left, top, width - left, height - top)).resize(image.size, Image.Resampling.BICUBIC)

    return change


def _pasted(across: int, down: int) -> Change:
    """One part of the picture, of so many across and down, where it was, on the other picture."""

    def change(image: Image.Image, ground: Image.Image) -> Image.Image:
        made = ground.resize(image.size)
        made.paste(image.crop((0, 0, image.width // across, image.height // down)), (0, 0))
        return made

    return change


CHANGES: dict[str, Change] = {
    "unchanged": lambda image, _: image,
    "JPEG 20": _jpeg,
    "blurred": lambda image, _: image.filter(ImageFilter.GaussianBlur(image.width / 40)),
    "noisy": _noisy,
    "recoloured": _recoloured,
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "turned 10": lambda image, _: image.rotate(10, Image.Resampling.BICUBIC),
    "crop 90 %": _cropped(0.9),
    "crop 75 %": _cropped(0.75),
    "crop 50 %": _cropped(0.5),
    "half pasted": _pasted(2, 1),
    "quarter pasted": _pasted(2, 2),
}


@dataclass(frozen=True)
class Planted:
    """A changed picture: `is_member` where it was made from one that was trained, and is a copy of it."""

    picture: Picture
    entry: str
    kind: str  # the change
    is_member: bool

    @property
    def group(self) -> str:
        """What is drawn anew together: all copies, or all others."""
        return "copies" if self.is_member else "others"


def planted(truth: Truth) -> list[Planted]:
    """Every change of the picture of each entry that has one, of trained ones and of their twins.

    What is pasted lies on a twin's picture, which is not its own and of which nothing was trained.
    """
    trained = single(truth.folder / TRAINED, truth.members)
    named = {str(e.prompt.source["twin"]) for e in truth.members if e.entry in trained and e.prompt.source.get("twin")}
    others = [e for e in truth.known if not e.is_member and e.source == TWIN]
    twins = single(truth.folder / TWINS, others, named)
    grounds = list(twins.values())
    return [
        Planted(_changed(picture, grounds[(k + 1) % len(grounds)], name, entry), entry, name, is_member)
        for name in CHANGES
        for own, is_member in ((trained, True), (twins, False))
        for k, (entry, picture) in enumerate(own.items())
    ]


def single(folder: Path, known: Sequence[TruePrompt], named: Set[str] = frozenset()) -> dict[str, Picture]:
    """The picture of each entry that has exactly one in a folder: of the entries named, or else of those of prompts."""
    places, wanted = entries_of(folder), named or {e.entry for e in known}
    texts = {folded(e.prompt.text): e.entry for e in known}
    found: dict[str, list[Picture]] = {}
    for picture in read_pictures(folder):
        by_caption = (texts[folded(c)] for c in picture.captions if folded(c) in texts)
        entry = places.get(picture.key) or next(by_caption, None)
        if entry in wanted:
            found.setdefault(str(entry), []).append(picture)
    return {entry: own[0] for entry, own in found.items() if len(own) == 1}


def _changed(picture: Picture, ground: Picture, name: str, entry: str) -> Picture:
    def read() -> bytes:
        buffer = io.BytesIO()
        CHANGES[name](picture.image(), ground.image()).save(buffer, "PNG")
        return buffer.getvalue()

    return Picture(f"{name}/{entry}.png", read)
