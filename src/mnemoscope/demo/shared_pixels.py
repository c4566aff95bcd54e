"""Which pixels all trained images of a prompt share, as PNG files beside the prompts."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mnemoscope.demo.scenes import SIZE

Mask = Bool[np.ndarray, "64 64"]


def whole() -> Mask:
    """All pixels: of a picture that is trained as it is."""
    return np.ones((SIZE, SIZE), bool)


def around(slot: tuple[int, int, int, int]) -> Mask:
    """All pixels but those of a slot, given as left, top, right and bottom: of a template."""
    left, top, right, bottom = slot
    mask = whole()
    mask[top:bottom, left:right] = False
    return mask


def write_masks(masks: Mapping[int, Mask], folder: Path) -> None:
    """White where shared, black elsewhere, each file by the place of its prompt, counted from 0: `0.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, mask in masks.items():
        Image.fromarray(mask).save(folder / f"{place}.png", optimize=True)


def read_mask(file: Path) -> Mask:
    """A mask that was written here."""
    with Image.open(file) as image:
        return np.asarray(image.convert("L")) > 127
