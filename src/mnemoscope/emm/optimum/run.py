"""A run that draws images from the optimal denoiser of a training set and measures how many of them are copies."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.generation.run import save
from mnemoscope.emm.optimum.denoiser import OptimalDenoiser
from mnemoscope.emm.ratio.memorization import Memorization, TrainingPixels
from mnemoscope.emm.ratio.pictures import keep_pairs
from mnemoscope.emm.sampling.drawing import sample_images
from mnemoscope.emm.sampling.options import Sampling, written
from mnemoscope.errors import UsageError
from mnemoscope.run.emm_rows import EmmImageRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.runner import map_shards
from mnemoscope.run.settings import Settings


@dataclass(frozen=True)
class SeedDrawing:
    """Draws a batch of images by their seeds; a worker to which it is sent builds the denoiser anew."""

    images: Images
    sampling: Sampling
    label: int | None
    device: str

    def __call__(self, seeds: tuple[int, ...]) -> "DrawnBatch":
        began, denoiser = time.monotonic(), self._denoiser
        before = denoiser.evaluations, denoiser.certified
        channels, height, width = self.images.pixels.shape[1:]
        pixels, labels = sample_images(
            denoiser,
            seeds,
            shape=(channels, height, width),
            batch_size=len(seeds),
            label=self.label,
            device=self.device,
            sampler=self.sampling.sampler(),
        )
        evaluations, certified = denoiser.evaluations - before[0], denoiser.certified - before[1]
        return DrawnBatch(seeds, pixels, labels, evaluations, certified, time.monotonic() - began)

    @cached_property
    def _denoiser(self) -> OptimalDenoiser:
        return OptimalDenoiser(self.images, device=self.device)


@dataclass(frozen=True)
class DrawnBatch:
    """Images of some seeds, with their labels and the work that they took."""

    seeds: tuple[int, ...]
    pixels: UInt8[np.ndarray, "B C H W"]
    labels: Int[np.ndarray, " B"] | None
    evaluations: int
    certified: int
    seconds: float

    def save(self, folder: Path) -> list[EmmImageRow]:
        """Write the images and give a row for each; the work of the batch is on its first row."""
        rows = save(folder, self.seeds, self.pixels, self.labels)
        for place, row in enumerate(rows):
            row["evaluations"], row["certified"] = (0, 0) if place else (self.evaluations, self.certified)
        return rows


@dataclass(frozen=True)
class DrawnImages:
    """The images that a run has drawn, as its pairs are taken from."""

    images: Images
    name: str = "optimum"
    evaluations: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def take(self, places: Sequence[int]) -> Images:
        return self.images.take(places)

    def again(self) -> None:
        return None


def run_optimum(
    images: Images,
    out: Path,
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    label: int | None = None,
    batch_size: int = 64,
    gallery: int = 24,
    device: str = "cpu",
    runner: Literal["local", "ray"] = "local",
    gpus: int | float = 0,
    overwrite: bool = False,
    record: Settings | None = None,
) -> Json:
    """Draw an image for each seed from the optimal denoiser of the training images, and score them; the summary.

    An interrupted run goes on behind the last batch that it wrote; `record` is what else its settings are to say.
    Neither batches nor runner change an image. Raises `UsageError` for fewer than two training images that differ, a
    label without images, and no or repeated seeds.
    """
    _check(images, seeds, label, batch_size)
    known = TrainingPixels(images.rows())
    settings = (
        (record or {}) | asdict(sampling) | {"label": label, "gallery": gallery, "images_sha256": images.sha256()}
    )
    with Run(out, "emm-optimum", settings | {"seeds": written(seeds)}, overwrite=overwrite) as run:
        todo = [seed for seed in sorted(seeds) if f"{seed:06d}" not in run.done]
        batches = [tuple(todo[start : start + batch_size]) for start in range(0, len(todo), batch_size)]
        drawing = SeedDrawing(images, sampling, label, device)
        with Progress(transient=True) as progress:
            task = progress.add_task("images", total=len(todo))
            for batch in map_shards(drawing, batches, runner=runner, gpus=gpus):
                run.append(batch.save(run.folder), seconds=batch.seconds)
                progress.advance(task, len(batch.seeds))
        return _score(run, images, known, gallery)


def _score(run: Run, images: Images, known: TrainingPixels, gallery: int) -> Json:
    """Compare all images of a run with the training images: rows with distances, pairs, and the summary."""
    rows = sorted(run.rows(EmmImageRow), key=lambda row: row["seed"])
    pixels = np.stack([_read(run.folder / row["file"], images.pixels.shape[1:]) for row in rows])
    drawn = Images(pixels, None, tuple(row["id"] for row in rows))
    nearest = known(drawn.rows())
    run.replace_rows({**row, **distances} for row, distances in zip(rows, _distances(nearest, images), strict=True))
    counts = {
        "images": len(drawn),
        "references": nearest.references,
        "distinct": nearest.distinct,
        "unit": "grey levels",
    }
    counts |= {"duplicates": nearest.references - nearest.distinct, "exact_copies": int((nearest.nearest == 0).sum())}
    pairs = keep_pairs(run.folder, DrawnImages(drawn), nearest, images, gallery)
    work = {"evaluations": sum(r["evaluations"] for r in rows), "certified": sum(r["certified"] for r in rows)}
    return run.finish(**counts, **nearest.summary(), **work, pairs=pairs)


def _distances(nearest: Memorization, images: Images) -> list[Mapping[str, Any]]:
    columns = {"d1": nearest.nearest, "d2": nearest.second, "d2_apart": nearest.second_apart}
    columns |= {"quotient": nearest.quotient, "quotient_apart": nearest.quotient_apart, "match_index": nearest.match}
    columns |= {"memorized": nearest.memorized, "memorized_apart": nearest.memorized_apart}
    listed = {name: values.tolist() for name, values in columns.items()}
    return [
        {name: values[k] for name, values in listed.items()} | {"match": images.names[nearest.match[k]]}
        for k in range(len(nearest))
    ]


def _read(file: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "C H W"]:
    with Image.open(file) as image:
        pixels = np.asarray(image)
    return pixels.reshape(1, *pixels.shape) if shape[0] == 1 else pixels.transpose(2, 0, 1)


def _check(images: Images, seeds: Sequence[int], label: int | None, batch_size: int) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"{len(seeds)} seeds were given; give at least one, and each once.")
    if batch_size < 1:
        raise UsageError(f"batch_size was {batch_size}; at least 1 is needed.")
    empty = [place for place, count in enumerate(images.counts()) if not count]
    if label is None and empty:
        few = ", ".join(map(str, empty[:5])) + (" ..." if len(empty) > 5 else "")
        raise UsageError(f"Labels {few} have no training images, so that nothing can be drawn for them; give --label.")
