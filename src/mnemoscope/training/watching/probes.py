"""Early warning: prompts of the training data that are scored and drawn again and again while a model trains."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, descriptor
from mnemoscope.job.batching import chunks, per_batch
from mnemoscope.job.seeds import seeds_of
from mnemoscope.methods import by_name as api
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.prompts.prompt import read_prompts
from mnemoscope.run.probe_rows import write_probes
from mnemoscope.run.training_rows import ProbeRow
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.rows import image_of
from mnemoscope.training.watching.observing import observed
from mnemoscope.training.watching.options import LookOptions, ProbeOptions
from mnemoscope.training.watching.warning import warning

GIVEN = "given"  # group of a prompt that is no caption of the training data


@runtime_checkable
class RunFolder(Protocol):
    """A run, as far as probes need it."""

    folder: Path


@dataclass(frozen=True)
class ProbePrompt:
    """A prompt to look at, the group that it belongs to, and the pictures that it is the caption of, if any."""

    prompt: str
    group: str
    images: tuple[Image.Image, ...] = ()
    files: tuple[str, ...] = ()


def probes_of(data: TrainingSet, options: LookOptions) -> list[ProbePrompt]:
    """The probes that the options ask for: the prompts of a file, or a random sample of each group of the data."""
    if options.probe_prompts is not None:
        return [_given(p.text, data) for p in read_prompts(options.probe_prompts)]
    probes = []
    for group in dict.fromkeys(row.group for row in data.rows):
        members = [k for k, row in enumerate(data.rows) if row.group == group]
        rng = random.Random(f"probes|{options.probe_seed}|{group}")
        drawn = sorted(rng.sample(members, min(options.probe_count, len(members))))
        probes += [ProbePrompt(data.possible(k)[0], group, _pictures(data, k), (data.rows[k].file,)) for k in drawn]
    return probes


def _given(text: str, data: TrainingSet) -> ProbePrompt:
    places = [k for k in range(len(data)) if text in data.possible(k)]
    images = [image for k in places for image in _pictures(data, k)]
    files = tuple(data.rows[k].file for k in places)
    return ProbePrompt(text, data.rows[places[0]].group if places else GIVEN, tuple(images), files)


def _pictures(data: TrainingSet, index: int) -> tuple[Image.Image, ...]:
    """A row's picture as it is trained on, and in a mirror where it is shown so too."""
    (image,) = _images(data.framing.pixels(image_of(data.rows[index]), False)[None] / 2 + 0.5)
    return (image, ImageOps.mirror(image)) if data.framing.random_flip else (image,)


class ProbeLook:
    """Probes that are scored, and drawn and compared with their own pictures, by any model.

    The same seeds are used at every look, so that what changes from look to look is the model alone. `images` has what
    was drawn last, by the place of the probe.
    """

    def __init__(self, probes: Sequence[ProbePrompt], options: LookOptions) -> None:
        if not probes:
            raise UsageError("There is no probe; give prompts, or data to take them from.")
        self.probes, self.options, self.network_evaluations = list(probes), options, 0
        self.features: Descriptor | None = None
        self.images: dict[int, list[Image.Image]] = {}
        if options.probe_images and any(p.images for p in probes):
            self.features = descriptor(options.probe_features)
            if not self.features.unit:
                raise UsageError(f"--probe-features {options.probe_features} have no similarity; use another.")
            self.own = [self.features(p.images) if p.images else None for p in self.probes]

    def look(self, model: Denoiser, step: int) -> list[ProbeRow]:
        """A row for each probe and detector."""
        before = model.network_evaluations
        seeds = seeds_of(self.options.probe_seed, max(1, self.options.probe_images))
        size = per_batch(batch_size(model, "auto"), len(seeds))
        rows = [row for part in chunks(range(len(self.probes)), size) for row in self._rows(model, step, part, seeds)]
        self.network_evaluations += model.network_evaluations - before
        return rows

    def _rows(self, model: Denoiser, step: int, part: Sequence[int], seeds: Sequence[int]) -> list[ProbeRow]:
        asked = self.options
        trajectory = Trajectory(
            model,
            [self.probes[k].prompt for k in part for _ in seeds],
            [seed for _ in part for seed in seeds],
            num_inference_steps=asked.probe_inference_steps,
            guidance_scale=asked.probe_guidance,
        )
        scores = {name: _scores(trajectory, name, len(seeds)) for name in asked.probe_detectors}
        similar = self._similarities(trajectory, part, len(seeds))
        looks: list[tuple[str | None, list[float | None]]] = [*scores.items()] or [(None, [None] * len(part))]
        return [
            {
                "step": step,
                "prompt": self.probes[k].prompt,
                "group": self.probes[k].group,
                "detector": name,
                "score": values[place],
                "own_similarity": similar[place],
            }
            for place, k in enumerate(part)
            for name, values in looks
        ]

    def _similarities(self, trajectory: Trajectory, part: Sequence[int], seeds: int) -> list[float | None]:
        """Mean over a probe's seeds of how similar the image is to the most similar of its own pictures."""
        if self.features is None:
            return [None] * len(part)
        try:
            images = _drawn(trajectory)
            vectors = self.features(images).reshape(len(part), seeds, -1)
        except ValueError:  # images without numbers, of a training that went wrong
            return [None] * len(part)
        self.images |= {k: images[place * seeds : (place + 1) * seeds] for place, k in enumerate(part)}
        owns = [self.own[k] for k in part]
        return [
            None if references is None else float((v @ references.T).max(axis=1).mean())
            for v, references in zip(vectors, owns, strict=True)
        ]


class Probes(ProbeLook):
    """Called with (step, pipe, run) while training: looks every N steps, and says why training should stop, or None.

    Rows go to `probes.jsonl` of the run; those of this step and later ones, of an earlier session, are replaced. The
    training is not changed by being looked at.
    """

    options: ProbeOptions

    def __call__(self, step: int, pipe: DiffusionPipeline, run: RunFolder) -> str | None:
        every = self.options.probe_every
        if not every or step % every:
            return None
        with observed(pipe) as model:
            rows = self.look(model, step)
        write_probes(run.folder, step, rows)
        return warning(rows, self.options)


def _scores(trajectory: Trajectory, name: str, seeds: int) -> list[float | None]:
    """A detector's value for each prompt, over its seeds as the detector has it; None for what is no number."""
    values = api.detect(trajectory, name).detach().double().cpu().reshape(-1, seeds)
    over = values.amax(1) if registry.detection(name).over_seeds == "max" else values.mean(1)
    return [value if math.isfinite(value) else None for value in over.tolist()]


def _drawn(trajectory: Trajectory) -> list[Image.Image]:
    last = trajectory.all()[-1].x_prev
    assert last is not None
    return _images(trajectory.model.decode(last))


def _images(pixels: Float[Tensor, "B 3 H W"]) -> list[Image.Image]:
    return VaeImageProcessor.numpy_to_pil(pixels.cpu().permute(0, 2, 3, 1).numpy())
