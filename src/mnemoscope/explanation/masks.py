"""Ground-truth masks of memorized regions, by prompt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import Prompt

Mask = Bool[np.ndarray, "H W"]


def read_masks(source: str | Path, prompts: Sequence[Prompt]) -> dict[str, Mask]:
    """Which pixels of a prompt's images are memorized, by the prompt's id.

    `source` is a folder of PNG files, white where memorized, each named by a prompt's id or by its place in the list,
    counted from 0; or "demo" for the bundled model's prompts. A prompt without a file that is labelled ordinary has an
    empty mask, any other one has none. Raises `UsageError` for a folder without a mask of any of the prompts and for a
    file that is no image.
    """
    if str(source) == "demo":
        from mnemoscope import demo

        return {p.id: mask for p in prompts if (mask := demo.mask(p.text)) is not None}
    files = {file.stem: file for file in sorted(Path(source).glob("*.png"))}
    by_place = {int(stem): file for stem, file in files.items() if stem.isdecimal()}
    named = {p.id: files.get(p.id) or by_place.get(place) for place, p in enumerate(prompts)}
    masks = {key: _read(file) for key, file in named.items() if file}
    if not masks:
        raise UsageError(
            f"{source} holds no mask of these prompts; name PNG files by prompt id or by place: 0.png, 1.png and so on."
        )
    empty = {p.id: np.zeros((1, 1), bool) for p in prompts if p.label is False}
    return empty | masks


def resized(mask: Mask, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask of another height and width: each pixel takes the nearest one's value."""
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def _read(file: Path) -> Mask:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("L")) > 127
    except OSError as error:
        raise UsageError(f"{file} cannot be read as a mask ({error}); give a PNG, white where memorized.") from None
