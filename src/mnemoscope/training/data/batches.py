"""The batches of a step, as parts of one whole that does not depend on how many processes share it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope.model.known import family_of
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.latents import Latents
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.order import Order
from mnemoscope.training.networks import TrainingBatch
from mnemoscope.training.noise import Draws
from mnemoscope.training.options import TrainOptions


def training_set(pipe: DiffusionPipeline, options: DataOptions) -> TrainingSet:
    """The data of a pipeline, at its own resolution unless told; a model that takes no text gets no captions."""
    family = family_of(pipe)
    vae = getattr(pipe, "vae", None)
    factor = 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    if not family.has_tokens and options.conditioning == "original":
        options = replace(options, conditioning="nolevel")
    tokenizer = getattr(pipe, "tokenizer", None)
    return TrainingSet.from_options(options, tokenizer, resolution=factor * family.latent_shape[1])


class Batches:
    """What one of several processes trains on, by the number of the step.

    The whole batch of a step has `batch_size` samples for each micro-batch of each process. They come in the same
    order and with the same noise, however many processes and micro-batches share it.
    """

    def __init__(
        self, data: TrainingSet, vae: Any, options: TrainOptions, *, process: int = 0, processes: int = 1, folder: Path
    ) -> None:
        self.data, self.options, self.process = data, options, process
        self.parts = processes * options.accumulation
        self.samples = options.batch_size * self.parts
        self.order = Order(data, self.samples, options.seed)
        self.latents = Latents(data, vae, folder)

    def prepare(self) -> Iterator[int]:
        """Compute what need not be computed at every step; yields the rows that are done."""
        return self.latents.precompute()

    def of(self, step: int) -> list[TrainingBatch]:
        """The micro-batches of a step, counted from 0."""
        places = range(self.process * self.options.accumulation, (self.process + 1) * self.options.accumulation)
        return [self._part(step, part) for part in places]

    def _part(self, step: int, part: int) -> TrainingBatch:
        views = self.order.batch(step, part, self.parts)
        captions = [self.data.texts(*view)[1] for view in views]
        groups = [self.data.rows[index].group for index, _ in views]
        return TrainingBatch(self.latents.batch(views), captions, groups, self.draws(step, part))

    def draws(self, step: int, part: int) -> Draws:
        """The random numbers of a part of a step's batch."""
        return Draws.of(self.options.seed, step, part, self.options.batch_size)
