"""The batches of a training from scratch: images, labels and random numbers as a function of seed and step."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.networks.losses import LossDraws, draw
from mnemoscope.emm.training.augmentation import Augmentation, NonLeaking, x_flip
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.errors import UsageError
from mnemoscope.training.data.duplication import Shares
from mnemoscope.training.data.order import Order
from mnemoscope.training.noise import keyed


@dataclass(frozen=True)
class EmmBatch:
    """A part of the batch of an update: images in [-1, 1], their labels, and what the loss draws for them.

    `augment` tells the network what was done to its images; `seed` is that of dropout, where there is any.
    """

    images: Float[Tensor, "B C H W"]
    labels: Int[Tensor, " B"] | None
    draws: LossDraws
    augment: Float[Tensor, "B 9"] | None
    seed: int | None = None

    def part(self, places: slice, seed: int | None) -> "EmmBatch":
        """Some of its samples."""
        labels = None if self.labels is None else self.labels[places]
        augment = None if self.augment is None else self.augment[places]
        return EmmBatch(
            self.images[places], labels, LossDraws(self.draws.sigma[places], self.draws.noise[places]), augment, seed
        )


@dataclass
class ShownCounts:
    """How often each image is shown, as `Order` asks for it."""

    shares: Shares


class EmmBatches:
    """What one of several processes trains on, by the number of the step.

    Everything is drawn for the whole batch of a step and then cut into parts: processes and accumulated passes that
    share a batch see what one pass would have seen. Images lie on the device as bytes.
    """

    def __init__(
        self,
        images: Images,
        network: NetworkOptions,
        options: EmmTrainOptions,
        *,
        device: torch.device,
        process: int = 0,
        processes: int = 1,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.options, self.network, self.device = options, network, device
        self.augmentation = augmentation or (NonLeaking(options.augment) if options.augment else None)
        if bool(self.augmentation) != network.augmentation:
            raise UsageError("Augmentation and a network that is told of it go together; give both, or neither.")
        parts = processes * options.accumulation
        if options.batch_size % parts:
            raise UsageError(
                f"A batch of {options.batch_size} cannot be shared evenly by {processes} processes with "
                f"{options.accumulation} passes each; give another --batch-size or --accumulation."
            )
        self.size = options.batch_size // parts
        self.own = range(process * options.accumulation, (process + 1) * options.accumulation)
        count = len(images)
        shares = Shares(np.ones(count, np.int64), np.ones(count), np.zeros(count, bool), options.order == "replacement")
        self.order = Order(ShownCounts(shares), options.batch_size, options.seed)
        self.pixels = torch.from_numpy(np.array(images.pixels)).to(device)
        self.labels = None if images.labels is None else torch.from_numpy(np.array(images.labels)).to(device).long()

    def of(self, step: int) -> list[EmmBatch]:
        """The parts that this process has of the batch of a step, counted from 0."""
        whole, drops = self._whole(step), bool(self.network.dropout)
        cuts = {part: slice(part * self.size, (part + 1) * self.size) for part in self.own}
        return [whole.part(cut, self._seed(step, part) if drops else None) for part, cut in cuts.items()]

    def _seed(self, step: int, part: int) -> int:
        return keyed("dropout", self.options.seed, step, part).initial_seed()

    def _whole(self, step: int) -> EmmBatch:
        seed, told = self.options.seed, None
        places = torch.tensor(self._places(step), device=self.device)
        images = self.pixels[places].to(torch.float32) / 127.5 - 1
        if self.options.x_flip:
            images = x_flip(images, keyed("flip", seed, step))
        if self.augmentation is not None:
            images, told = self.augmentation(images, keyed("augmentation", seed, step))
        draws = draw(self.network.preconditioning, tuple(images.shape), keyed("noise", seed, step))
        draws = LossDraws(draws.sigma.to(self.device), draws.noise.to(self.device))
        return EmmBatch(images, None if self.labels is None else self.labels[places], draws, told)

    def _places(self, step: int) -> list[int]:
        """The images of a batch; in one order for ever, or in a new one each epoch."""
        if self.options.order != "fixed":
            return [row for row, _ in self.order.batch(step)]
        first = step * self.options.batch_size
        return [self.order.view(k % len(self.pixels))[0] for k in range(first, first + self.options.batch_size)]
