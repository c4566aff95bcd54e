"""The images of the graded training set: of a view of an entry, and of the ordinary pictures between them."""

from functools import cache

import numpy as np
from PIL import Image, ImageEnhance

from mnemoscope.demo import scenes
from mnemoscope.demo.entries import CONCEPTS, GradedPicture, spare_names
from mnemoscope.demo.scenes import SIZE, Emoji, Sample, background, crowded, framed, place, uninformative, wording
from mnemoscope.demo.titles import repeated

VARIANTS = 8  # near-copies of a picture: itself, and seven that are cropped and coloured otherwise
EMPTY, NOISE, TITLED = 0.12, 0.04, 0.24  # shares of ordinary pictures with no caption, a random one, and a title


def kinds_of_view(entry: GradedPicture) -> int:
    """How many different images an entry has: views beyond them come again in turn."""
    return {"near-copies": VARIANTS, "template": len(CONCEPTS)}.get(entry.kind, 1)


def view(emoji: Emoji, entry: GradedPicture, number: int) -> Sample:
    """A view of an entry, by its number: images and captions take turns, so that each has its exact share."""
    shown = image(emoji, entry, number % kinds_of_view(entry))
    return Sample(shown, caption(entry, number), entry.kind, concept(entry, number))


def caption(entry: GradedPicture, number: int) -> str:
    """The caption of a view."""
    return entry.captions[number % len(entry.captions)].replace("{name}", concept(entry, number))


def concept(entry: GradedPicture, number: int) -> str:
    """The object of a view."""
    return entry.concept or CONCEPTS[number % len(CONCEPTS)]


def image(emoji: Emoji, entry: GradedPicture, which: int) -> Image.Image:
    """One of an entry's images."""
    rng = np.random.default_rng(entry.seed())
    if entry.concept is None:
        return framed(emoji, CONCEPTS[which], rng, entry.index % 3)
    whole = crowded(emoji, emoji.names[entry.concept], rng)
    return whole if which == 0 else near_copy(whole, np.random.default_rng([*entry.seed(), which]))


def slot(entry: GradedPicture) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square of a template's object: all else is the same in its images."""
    return scenes.slot_of(np.random.default_rng(entry.seed()))


def near_copy(whole: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square of three quarters to nine tenths of the picture, enlarged, with other brightness and colours."""
    side = int(rng.uniform(0.75, 0.9) * SIZE)
    x, y = (int(v) for v in rng.integers(0, SIZE - side + 1, size=2))
    cut = whole.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    bright = ImageEnhance.Brightness(cut).enhance(rng.uniform(0.75, 1.25))
    return ImageEnhance.Color(bright).enhance(rng.uniform(0.5, 1.5))


def ordinary(emoji: Emoji, seed: int, number: int) -> Sample:
    """An ordinary pair by its number: its object is fixed by its turn, and all else drawn anew."""
    rng = np.random.default_rng([22, seed, number])
    name = CONCEPTS[number % len(CONCEPTS)]
    canvas = background(rng, ("plain", "graded", "split"))
    place(canvas, emoji.picture(emoji.names[name]), rng, 34, 54, turn=10)
    return Sample(canvas, _ordinary_caption(emoji, name, rng), "ordinary", name)


def _ordinary_caption(emoji: Emoji, name: str, rng: np.random.Generator) -> str:
    share = rng.random()
    if share < EMPTY:
        return ""
    if share < EMPTY + NOISE:
        return uninformative(emoji, rng)
    return titled(name, rng) if share < EMPTY + NOISE + TITLED else wording(name, rng)


def titled(name: str, rng: np.random.Generator) -> str:
    """A title around an object as entries have them, with coined names that no entry has."""
    return repeated(name, _spare(), rng)


_spare = cache(spare_names)
