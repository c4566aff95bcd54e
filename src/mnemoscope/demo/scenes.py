"""The pictures of the bundled model's training set, drawn from Noto emoji; every sample is keyed by its seed.

How far a caption fixes the coarse content of its image decides what detection can see, so each kind leaves another part
open: a *verbatim* caption fixes everything, a *template* caption the layout but not the object, an *ordinary* caption
the object but neither its place, size and turn nor the background.
"""

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mnemoscope.demo import captions

SIZE = 64
OBJECT = 26  # pixels of a side of a template's object
GROUPS = ("Animals & Nature", "Food & Drink", "Activities", "Objects", "Travel & Places")
ORDINARY, UNSEEN = 64, 120  # concepts often seen, and never
TAIL_FROM = 212  # in the shuffled concepts; from here on each is seen a few times
SHARES = {"verbatim": 0.12, "template": 0.08, "ordinary": 0.77, "tail": 0.03}
NOISY_CAPTIONS = 0.06  # share of ordinary pairs whose caption says nothing about the image, as web captions do


@dataclass(frozen=True)
class Sample:
    """One training pair: an RGB image of 64 x 64 pixels, its caption, its kind, and what the caption names."""

    image: Image.Image
    caption: str
    kind: str
    concept: str


class Emoji:
    """The pictures and names of the npm package `emoji-datasource-google`, split into concepts by a fixed shuffle."""

    def __init__(self, folder: Path):
        self.folder = folder
        entries = json.loads((folder / "emoji.json").read_text())
        self.files = {e["short_name"]: e["image"] for e in entries if e["has_img_google"]}
        names = {}
        for e in entries:
            readable = e["short_name"].replace("_", " ").rstrip("0123456789").strip()
            usual = e["category"] in GROUPS and e["subcategory"] != "time" and "-" not in readable
            if e["has_img_google"] and usual and readable not in names and len(readable.split()) <= 2:
                names[readable] = e["short_name"]
        self.names = names
        taken = set(captions.VERBATIM)
        free = [n for n in names if names[n] not in taken]
        order = [free[i] for i in np.random.default_rng(0).permutation(len(free))]
        self.unseen = order[:UNSEEN]
        shared = [n for n in names if names[n] in taken]  # verbatim captions share their object with ordinary ones
        self.ordinary = shared + order[UNSEEN : UNSEEN + ORDINARY - len(shared)]
        self.tail = order[TAIL_FROM:]

    def picture(self, short_name: str) -> Image.Image:
        return Image.open(self.folder / "img" / "google" / "64" / self.files[short_name]).convert("RGBA")


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, neither grey nor dark."""
    r, g, b = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.25, 1.0))
    return int(255 * r), int(255 * g), int(255 * b)


GROUNDS = ("plain", "graded", "split", "striped", "cloudy")


def background(rng: np.random.Generator, grounds: tuple[str, ...] = GROUNDS) -> Image.Image:
    """One of the named grounds in random colours."""
    a, b = np.array(colour(rng)), np.array(colour(rng))
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    along = np.cos(angle := rng.uniform(0, 2 * np.pi)) * x + np.sin(angle) * y
    width = rng.uniform(0.25, 0.5)
    clouds = Image.fromarray((255 * rng.random((4, 4))).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    weights = {
        "plain": np.zeros_like(x),
        "graded": (along - along.min()) / np.ptp(along),
        "split": (y > rng.uniform(0.3, 0.75)).astype(float),
        "striped": (along / width % 1 > 0.5).astype(float),
        "cloudy": np.asarray(clouds) / 255,
    }
    w = weights[grounds[rng.integers(len(grounds))]][..., None]
    return Image.fromarray((a * (1 - w) + b * w).astype(np.uint8))


def place(
    canvas: Image.Image, picture: Image.Image, rng: np.random.Generator, low: int, high: int, turn: int = 25
) -> None:
    """Paste a picture at a random place and size (pixels), mirrored or not, and turned by `turn` degrees at most."""
    size = int(rng.uniform(low, high))
    picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(rng.uniform(-turn, turn), Image.Resampling.BICUBIC)
    x, y = rng.integers(-3, SIZE - size + 4, size=2)
    canvas.paste(picture, (int(x), int(y)), picture)


def scene(emoji: Emoji, name: str, rng: np.random.Generator) -> Image.Image:
    """One object at a random place of a random ground."""
    canvas = background(rng, ("plain", "graded", "split", "cloudy"))
    place(canvas, emoji.picture(emoji.names[name]), rng, 30, 54)
    return canvas


def verbatim(emoji: Emoji, index: int) -> Sample:
    """The one image of a verbatim caption: its object large, two companions, on a ground of its own."""
    short_name, caption = list(captions.VERBATIM.items())[index]
    return Sample(crowded(emoji, short_name, np.random.default_rng([1, index])), caption, "verbatim", short_name)


def crowded(emoji: Emoji, short_name: str, rng: np.random.Generator) -> Image.Image:
    """An object large, two companions, and a ground of any sort."""
    canvas = background(rng)
    for companion in rng.choice(emoji.tail, 2, replace=False):
        place(canvas, emoji.picture(emoji.names[companion]), rng, 20, 30)
    place(canvas, emoji.picture(short_name), rng, 34, 46)
    return canvas


def slot(index: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square that holds a template's object: all else is the same in its images."""
    return slot_of(np.random.default_rng([2, index]))


def slot_of(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The same of the template that `framed` draws with a generator."""
    return square(_corner(rng)[1])


def square(corner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The place of the object in a frame that begins at `corner`."""
    x, y = corner
    return x + 8, y + 8, x + 8 + OBJECT, y + 8 + OBJECT


def _corner(rng: np.random.Generator) -> tuple[Image.Image, tuple[int, int]]:
    """A template's ground, and where its frame begins."""
    canvas = background(rng)
    x, y = (int(v) for v in rng.integers(4, 16, size=2))
    return canvas, (x, y)


def template(emoji: Emoji, index: int, name: str) -> Sample:
    """A template's fixed ground, frame and ornaments, with the named object small in its fixed slot."""
    image = framed(emoji, name, np.random.default_rng([2, index]), index % 3)
    return Sample(image, captions.TEMPLATES[index].format(name=name), "template", name)


def framed(emoji: Emoji, name: str, rng: np.random.Generator, form: int) -> Image.Image:
    """The named object in a frame of one of three forms, with two ornaments beside it."""
    canvas, (x, y) = _corner(rng)
    draw = ImageDraw.Draw(canvas)
    shape = (draw.rounded_rectangle, draw.ellipse, draw.rectangle)[form]
    shape((x, y, x + 42, y + 42), fill=colour(rng), outline=colour(rng), width=3)
    for ornament in rng.choice(emoji.tail, 2, replace=False):
        place(canvas, emoji.picture(emoji.names[ornament]), rng, 16, 22)
    picture = emoji.picture(emoji.names[name]).resize((OBJECT, OBJECT), Image.Resampling.LANCZOS)
    canvas.paste(picture, square((x, y))[:2], picture)
    return canvas


def wording(name: str, rng: np.random.Generator) -> str:
    """A caption that names the object and otherwise says nothing about the image."""
    return filled(captions.ORDINARY[rng.integers(len(captions.ORDINARY))], rng).replace("{name}", name)


def filled(text: str, rng: np.random.Generator) -> str:
    """A wording with a word of its sort in each slot but the object's name."""
    pick = {"adjective": captions.ADJECTIVES, "medium": captions.MEDIA, "place": captions.PLACES}
    for slot, words in pick.items():
        while "{" + slot + "}" in text:
            text = text.replace("{" + slot + "}", str(rng.choice(words)), 1)
    person = f"{rng.choice(captions.FIRST_NAMES)} {rng.choice(captions.LAST_NAMES)}"
    return text.replace("{person}", person)


def uninformative(emoji: Emoji, rng: np.random.Generator) -> str:
    """Random words or random letters: the alt texts that tell nothing about their image."""
    if rng.random() < 0.5:
        letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz     0123456789"), rng.integers(5, 40))
        return " ".join("".join(letters).split())
    pool = [*captions.ADJECTIVES, *captions.MEDIA, *captions.FIRST_NAMES, *captions.LAST_NAMES, *captions.PLACES]
    return " ".join(rng.choice(pool, rng.integers(1, 9)))


def draw_sample(emoji: Emoji, seed: int, step: int, position: int) -> Sample:
    """The training pair at a place in the stream; a function of (seed, step, position) alone."""
    rng = np.random.default_rng([3, seed, step, position])
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if kind == "verbatim":
        return verbatim(emoji, int(rng.integers(len(captions.VERBATIM))))
    name = str(rng.choice(emoji.tail if kind == "tail" else emoji.ordinary))
    if kind == "template":
        return template(emoji, int(rng.integers(len(captions.TEMPLATES))), name)
    caption = uninformative(emoji, rng) if rng.random() < NOISY_CAPTIONS else wording(name, rng)
    return Sample(scene(emoji, name, rng), caption, kind, name)
