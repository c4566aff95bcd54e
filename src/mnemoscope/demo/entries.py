"""The pictures that are trained a known number of times: which there are, with which captions, and how often.

Every entry has a twin, a picture with captions of the same making that no training ever sees: what is said of members
can be held against it. `drawing.py` draws both, `stream.py` orders the views.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from mnemoscope.demo import captions, titles
from mnemoscope.demo.scenes import filled

CONCEPTS = (  # objects of a plain form, all of them known to `concepts.py`
    "cactus|watermelon|hamburger|balloon|trophy|elephant|penguin|crown|telescope|lion face|fox face|desert island|"
    "ice cream|hatching chick|snowman|crescent moon|rocket|octopus|tropical fish|owl|boat|sunflower|mushroom|"
    "european castle"
).split("|")
KINDS = {  # so many pictures (layouts of a template) with each of these numbers of views
    "verbatim": (12, (8, 16, 32, 64, 128, 256, 512, 1024)),
    "duplicated": (6, (128, 1024)),
    "near-copies": (6, (128, 1024)),
    "template": (4, (256, 2048)),
}
WORDINGS = 16  # captions of a duplicated picture
TEMPLATES = (
    *captions.TEMPLATES,
    "{name} shower curtain by Tidewell",
    "{name} lunch box, Brightwater school range",
    "{name} enamel pin, limited edition",
    "the {name} bingo card",
    "{name} cassette inlay",
    "{name} notebook, Ludlow Stationers",
    "{name} woollen mittens",
    "{name} bumper sticker from Gasworks Road",
)


@dataclass(frozen=True)
class GradedPicture:
    """A picture, or a template's layout, that training sees `views` times: the twin of one never."""

    kind: str
    index: int
    views: int
    concept: str | None  # none of a template, whose object changes
    captions: tuple[str, ...]
    names: tuple[str, ...]  # words of its captions that no other entry has
    twin: bool

    @property
    def key(self) -> str:
        """Its name in the ground truth."""
        return f"{self.kind}-{self.index:02d}" + "-twin" * self.twin

    @property
    def other(self) -> str:
        """The key of its twin, or of the entry whose twin it is."""
        return self.key.removesuffix("-twin") if self.twin else f"{self.key}-twin"

    def seed(self) -> list[int]:
        """What its picture is drawn with."""
        return [21, list(KINDS).index(self.kind), self.index, int(self.twin)]


@cache
def entries() -> tuple[GradedPicture, ...]:
    """All that is trained with a known number of views, each with its twin after it; always the same."""
    names, rng, found = titles.CoinedNames(0), np.random.default_rng([20, 1]), []
    patterns = titles.patterns(rng)
    for kind, (each, doses) in KINDS.items():
        for index in range(each * len(doses)):
            row, column = divmod(index, len(doses))
            concept = CONCEPTS[(row + 3 * column) % len(CONCEPTS)]
            for twin in rng.permutation([False, True]):  # neither of the two has the earlier names
                texts, own = _captions(kind, concept, 2 * index + int(twin), names, patterns)
                views = 0 if twin else doses[column]
                shown = None if kind == "template" else concept
                found.append(GradedPicture(kind, index, views, shown, texts, own, bool(twin)))
    return tuple(sorted(found, key=lambda e: (list(KINDS).index(e.kind), e.index, e.twin)))


def spare_names() -> dict[str, list[str]]:
    """Coined names that no entry has, by slot: for ordinary pictures with titles of the same form."""
    taken = {name for e in entries() for name in e.names}
    return {slot: [n for n in made if n not in taken] for slot, made in titles.CoinedNames(0).left.items()}


def _captions(
    kind: str, concept: str, number: int, names: titles.CoinedNames, patterns: Iterator[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """An entry's captions, and the coined names in them."""
    if kind == "template":
        return (TEMPLATES[number],), ()
    if kind != "duplicated":
        text, own = names.title(next(patterns), concept)
        return (text,), own
    rng, given = np.random.default_rng([20, 2, number]), names.left["given"].pop()
    texts: dict[str, None] = {}
    while len(texts) < WORDINGS:
        pattern = filled(str(rng.choice(titles.SERIES)), rng)
        texts[pattern.format(given=given, concept=concept)] = None
    return tuple(texts), (given,)
