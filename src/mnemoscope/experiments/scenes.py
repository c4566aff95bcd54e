"""Procedural scenes with true captions: unlimited, offline, and each a function of its seed and number alone."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mnemoscope.errors import UsageError
from mnemoscope.generation.run import save_png
from mnemoscope.run.run import read_json, write_json
from mnemoscope.run.writing import write_whole

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star", "bar")
COLOURS = {
    "red": (206, 48, 44),
    "blue": (44, 86, 196),
    "green": (46, 148, 72),
    "yellow": (236, 200, 60),
    "purple": (130, 62, 160),
    "orange": (236, 130, 40),
    "white": (240, 240, 236),
    "black": (28, 28, 32),
}
COLUMNS, LINES = ("left", "middle", "right"), ("top", "centre", "bottom")
GROUNDS = ("plain", "striped", "dotted", "checked", "cloudy")
WORDINGS = (
    "a {colour} {shape} at the {line} {column} on a {texture} {ground} ground",
    "{texture} {ground} picture with one {colour} {shape}, {line} {column}",
    "there is a {shape} in {colour}, {line} {column}, before {texture} {ground}",
    "{line} {column}: {colour} {shape}; background: {texture} {ground}",
    "on {texture} {ground} lies a {colour} {shape}, at the {line} {column}",
)
EXTRAS = 24  # small marks on the most complex scene
FINE = 4  # times as fine as the picture is everything drawn
DISTINCT = len(SHAPES) * len(COLOURS) * (len(COLOURS) - 1) * len(COLUMNS) * len(LINES) * len(GROUNDS)


@dataclass(frozen=True)
class Scenes:
    """How many scenes, how large, how complex; each is an entry of the same name under `scenes`.

    `complexity` is from 0, a shape on its ground, to 1, with marks and grain all over it, which no caption names; two
    numbers are a range that each scene draws from. `captions` is how many true wordings each scene has. Scenes of other
    seeds, or of another `part`, are others. Raises `UsageError` for numbers out of range.
    """

    count: int = 64
    size: int = 64
    complexity: int | float | tuple[int | float, ...] = 0.5
    captions: int = len(WORDINGS)
    part: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= DISTINCT // 2:
            raise UsageError(f"scenes: count is {self.count}; give a number from 1 to {DISTINCT // 2}.")
        if not 8 <= self.size <= 1024:
            raise UsageError(f"scenes: size is {self.size}; give 8 to 1024 pixels.")
        if not 1 <= self.captions <= len(WORDINGS):
            raise UsageError(f"scenes: captions is {self.captions}; give a number from 1 to {len(WORDINGS)}.")
        low, high = self.range
        if not (0 <= low <= high <= 1 and self.part >= 0):
            raise UsageError("scenes: complexity is a number from 0 to 1, or a range of two; part is 0 or more.")

    @property
    def range(self) -> tuple[int | float, int | float]:
        """The least and the most complexity."""
        if isinstance(self.complexity, tuple):
            return (self.complexity[0], self.complexity[1]) if len(self.complexity) == 2 else (1, 0)
        return self.complexity, self.complexity


@dataclass(frozen=True)
class Scene:
    """A scene with its true captions, its class, which is its shape, and how complex it is."""

    image: Image.Image
    captions: tuple[str, ...]
    kind: str
    complexity: float


def scenes(asked: Scenes, seed: int) -> Iterator[Scene]:
    """The scenes in order, no two with the same captions; a longer set of the same seed begins with a shorter one."""
    seen: set[str] = set()
    for number in range(asked.count):
        tries = iter(range(10_000))
        while (made := _scene(asked, np.random.default_rng([7, seed, asked.part, number, next(tries)])))[0] in seen:
            pass
        seen.add(made[0])
        yield made[1]


def write_scenes(asked: Scenes, seed: int, folder: Path) -> Path:
    """The scenes as PNG files with `captions.jsonl`, whole or not at all; those that are there already stay."""
    done, about = folder / ".whole", {**asdict(asked), "seed": seed}
    if done.is_file() and read_json(done) == json.loads(json.dumps(about)):
        return folder
    lines = []
    for number, scene in enumerate(scenes(asked, seed)):
        file = f"{number:05d}.png"
        save_png(scene.image, folder / file, {"caption": scene.captions[0]})
        lines.append({"file": file, "captions": scene.captions, "class": scene.kind, "complexity": scene.complexity})
    write_whole(folder / "captions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_json(done, about)
    return folder


def _scene(asked: Scenes, rng: np.random.Generator) -> tuple[str, Scene]:
    shape, texture = str(rng.choice(SHAPES)), str(rng.choice(GROUNDS))
    colour, ground = (str(name) for name in rng.choice(list(COLOURS), 2, replace=False))
    column, line = (int(k) for k in rng.integers(3, size=2))
    words = {"shape": shape, "colour": colour, "ground": ground, "texture": texture}
    captions = tuple(text.format(column=COLUMNS[column], line=LINES[line], **words) for text in WORDINGS)
    complexity = float(rng.uniform(*asked.range))
    image = _ground(asked.size, texture, COLOURS[ground], rng)
    _marks(image, round(EXTRAS * complexity), rng)
    middle = tuple((0.22 + 0.28 * k + rng.uniform(-0.04, 0.04)) * image.width for k in (column, line))
    _shape(image, shape, COLOURS[colour], middle, rng.uniform(0.15, 0.21) * image.width, rng)
    small = image.resize((asked.size,) * 2, Image.Resampling.BOX)
    return captions[0], Scene(_grained(small, complexity, rng), captions[: asked.captions], shape, complexity)


def _ground(size: int, texture: str, colour: tuple[int, ...], rng: np.random.Generator) -> Image.Image:
    side = FINE * size
    y, x = np.mgrid[0:side, 0:side] / side
    turn, waves, (right, down) = rng.uniform(0, 2 * math.pi), rng.integers(3, 7), rng.uniform(0, 1, size=2)
    u, v = (waves * (math.cos(turn + q) * x + math.sin(turn + q) * y) for q in (0, math.pi / 2))
    field = {
        "plain": np.zeros_like(x),
        "striped": (u + right) % 1 > 0.5,
        "dotted": np.hypot((u + right) % 1 - 0.5, (v + down) % 1 - 0.5) < 0.28,
        "checked": ((u + right) % 1 > 0.5) ^ ((v + down) % 1 > 0.5),
        "cloudy": _clouds(side, rng),
    }[texture]
    other = np.array(colour) * 0.6 + (255 if sum(colour) < 380 else 0) * 0.4
    mixed = np.array(colour) * (1 - field[..., None]) + other * field[..., None]
    return Image.fromarray(mixed.astype(np.uint8))


def _clouds(side: int, rng: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray((255 * rng.random((5, 5))).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 255


def _marks(image: Image.Image, count: int, rng: np.random.Generator) -> None:
    for _ in range(count):
        at = tuple(rng.uniform(0, 1, size=2) * image.width)
        name, colour = str(rng.choice(SHAPES)), COLOURS[str(rng.choice(list(COLOURS)))]
        _shape(image, name, colour, at, rng.uniform(0.03, 0.06) * image.width, rng)


def _shape(
    image: Image.Image,
    name: str,
    colour: tuple[int, ...],
    at: tuple[float, ...],
    radius: float,
    rng: np.random.Generator,
) -> None:
    draw, (x, y), turn = ImageDraw.Draw(image), at, float(rng.uniform(-0.3, 0.3))
    if name in ("circle", "ring"):
        box = (x - radius, y - radius, x + radius, y + radius)
        return (
            draw.ellipse(box, fill=colour) if name == "circle" else draw.ellipse(box, None, colour, int(radius / 2.5))
        )
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(math.pi / 4 + k * math.pi / 2, 1) for k in range(4)],
        "diamond": [(k * math.pi / 2, 0.65 if k % 2 else 1.1) for k in range(4)],
        "triangle": [(-math.pi / 2 + k * 2 * math.pi / 3, 1.1) for k in range(3)],
        "star": [(-math.pi / 2 + k * math.pi / 5, 0.45 if k % 2 else 1.1) for k in range(10)],
        "cross": [(k * math.pi / 2 + d, 0.4 * math.sqrt(2) if d > 0.5 else 1.05) for k in range(4) for d in _ARM],
        "bar": [(d + k * math.pi, 1.15) for k in range(2) for d in (-0.25, 0.25)],
    }
    draw.polygon(
        [(x + radius * s * math.cos(turn + a), y + radius * s * math.sin(turn + a)) for a, s in corners[name]], colour
    )


_ARM = (-0.36, 0.36, math.pi / 4)  # corners of a cross's arm, and of the angle behind it


def _grained(image: Image.Image, complexity: float, rng: np.random.Generator) -> Image.Image:
    noise = rng.normal(0, 14 * complexity, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))
