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
    texts_of = beside(images, texts)
    used = {text for several in texts_of.values() for text in several}
    left = [text for text in texts if text not in used]
    alone: dict[str, list[str]] = {}
    for image in images:
        if matched := TWO_PARTS.fullmatch(stem(image)):
            alone.setdefault(matched[1], []).append(image)
    for text in list(left):
        matched = TWO_PARTS.fullmatch(stem(text))
        theirs = alone.get(matched[1], []) if matched else []
        if len(theirs) == 1 and used.isdisjoint(texts_of.get(theirs[0], ())):
            texts_of[theirs[0]] = (*texts_of.get(theirs[0], ()), text)
            left.remove(text)
    return texts_of, left


def without_image(images: Sequence[str], left: Sequence[str]) -> tuple[Texts, list[str]]:
    """Texts of each sample that has no image, by its name, and texts of no use, whose sample has one."""
    stems = {stem(image) for image in images}
    parted = {matched[1] for each in stems if (matched := TWO_PARTS.fullmatch(each))}
    samples: dict[str, list[str]] = {}
    useless = []
    for text in left:
        name_of = stem(text)
        folder, slash, base = name_of.rpartition("/")
        first = folder + slash + base.partition(".")[0]
        is_part = name_of in stems or first in stems or (first in parted and TWO_PARTS.fullmatch(name_of) is not None)
        if is_part:
            useless.append(text)
        else:
            samples.setdefault(name_of, []).append(text)
    return {name: tuple(several) for name, several in samples.items()}, useless
