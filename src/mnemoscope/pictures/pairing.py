"""Which texts of a tar belong to which image: those of its name, as in a folder, then those of its sample."""

import re
from collections.abc import Sequence

from mnemoscope.pictures.names import stem
from mnemoscope.pictures.told import beside

TWO_PARTS = re.compile(r"((?:.*/)?[^./]+)\.[A-Za-z_]+")  # a stem such as sample7.input, of the sample sample7
Texts = dict[str, tuple[str, ...]]


def paired(images: Sequence[str], texts: Sequence[str]) -> tuple[Texts, list[str]]:
    """Texts of each image, and those of none.

    `sample7.input.png` has `sample7.outputs.txt`, where it has no text of its own name and is the only image with two
    endings of its sample; `cat.png` has nothing of `cat.crop.txt`.
    """
    own = beside(images, texts)
    used = {text for several in own.values() for text in several}
    left = [text for text in texts if text not in used]
    alone: dict[str, list[str]] = {}
    for image in images:
        if found := TWO_PARTS.fullmatch(stem(image)):
            alone.setdefault(found[1], []).append(image)
    for text in list(left):
        found = TWO_PARTS.fullmatch(stem(text))
        theirs = alone.get(found[1], []) if found else []
        if len(theirs) == 1 and used.isdisjoint(own.get(theirs[0], ())):
            own[theirs[0]] = (*own.get(theirs[0], ()), text)
            left.remove(text)
    return own, left


def without_image(images: Sequence[str], left: Sequence[str]) -> tuple[Texts, list[str]]:
    """Texts of each sample that has no image, by its name, and texts of no use, whose sample has one."""
    stems = {stem(image) for image in images}
    parted = {found[1] for each in stems if (found := TWO_PARTS.fullmatch(each))}
    samples: dict[str, list[str]] = {}
    useless = []
    for text in left:
        own = stem(text)
        folder, slash, base = own.rpartition("/")
        first = folder + slash + base.partition(".")[0]
        is_part = own in stems or first in stems or (first in parted and TWO_PARTS.fullmatch(own) is not None)
        if is_part:
            useless.append(text)
        else:
            samples.setdefault(own, []).append(text)
    return {name: tuple(several) for name, several in samples.items()}, useless
