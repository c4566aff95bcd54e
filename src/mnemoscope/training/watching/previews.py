"""Previews: the same prompts and seeds drawn every so often while a model trains, one strip a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusers import DiffusionPipeline
from PIL import Image

from mnemoscope.run.run import Run
from mnemoscope.run.writing import whole
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.options import TrainOptions
from mnemoscope.training.watching.observing import observed

FOLDER = "previews"
DRAWN = 3  # captions


@dataclass(frozen=True)
class Previews:
    """Draws `images` of each prompt, with the seeds `seed` and those after it, every `every` steps (never for 0)."""

    prompts: Sequence[str]
    every: int
    images: int
    seed: int
    num_inference_steps: int
    guidance_scale: int | float

    def __call__(self, step: int, pipe: DiffusionPipeline, run: Run) -> None:
        """Write `previews/000123.png`: a row for each prompt, an image for each seed."""
        if not self.every or step % self.every:
            return
        seeds = list(range(self.seed, self.seed + self.images))
        with observed(pipe) as model:
            guidance = 1.0 if model.family.unguided else self.guidance_scale
            sampling = {"num_inference_steps": self.num_inference_steps, "guidance_scale": guidance}
            rows = [model.generate([prompt] * self.images, seeds, **sampling) for prompt in self.prompts]
        save(sheet(rows), run.folder / FOLDER / f"{step:06d}.png")


def previews(data: TrainingSet, options: TrainOptions) -> Previews:
    """The previews that the options ask for, of the first three captions where they name no prompt."""
    return Previews(
        options.preview_prompts or first_captions(data),
        options.preview_every,
        options.preview_images,
        options.seed,
        options.preview_inference_steps,
        options.preview_guidance,
    )


def first_captions(data: TrainingSet) -> list[str]:
    """The first captions that differ, in the order of the rows: of a set that is sorted by class, of three classes."""
    captions: dict[str, None] = {}
    for place in range(len(data)):
        captions |= dict.fromkeys(data.possible(place)[:1])
        if len(captions) == DRAWN:
            break
    return list(captions)


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Images of one size side by side, row below row."""
    width, height = rows[0][0].size
    whole = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)))
    for down, row in enumerate(rows):
        for across, image in enumerate(row):
            whole.paste(image, (across * width, down * height))
    return whole


def save(image: Image.Image, file: Path) -> None:
    """Write a PNG file, whole or not at all."""
    with whole(file) as partial:
        image.save(partial, format="PNG")
