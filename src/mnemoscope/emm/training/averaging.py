"""Exponential moving averages of a network's weights, by the four modes of the EMM experiments, several in one run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mnemoscope.emm.training.average import Average
from mnemoscope.errors import UsageError

FULL_SET = 50_000
FULL_HALF_LIFE = 500_000
FULL_BATCH = 512
RAMP_UP = 0.05
HALF_LIFE_STEP = 1000


def half_life(n: int, *, full: int = FULL_HALF_LIFE, truncate: bool = False) -> int:
    """Half-life in images for a training set of n: `full` for 50,000 images, in proportion for fewer.

    truncate: cut to thousands of images, as the original has it; below n = 100 that is 0, and all but
    mode3 are then the weights themselves.
    """
    images = full * n // FULL_SET
    return images // HALF_LIFE_STEP * HALF_LIFE_STEP if truncate else images


def decay(
    average: Average,
    *,
    batch: int,
    images_seen: int,
    n: int,
    full: int = FULL_HALF_LIFE,
    ramps: bool = True,
    truncate: bool = False,
) -> float:
    """Decay of one step, 0..1: the share of the average that stays.

    batch: images a step; images_seen: before this step; n: size of the training set. mode1: a half-life of a fixed
    number of epochs; mode2: the rate of a run on 50,000 images at batch 512, whatever n and batch; mode3: a half-life
    of 500,000 images; mode4: mode2's course with the batch in it, scaled to end at the average's own decay. All but
    mode3 ramp up, unless not `ramps`: the half-life is at most 5 % of the images seen. `full` is the half-life of a set
    of 50,000 images. At n a multiple of 100 `truncate` changes nothing.
    """
    if average.mode == "mode3":
        return _halved(batch, full)
    images = half_life(n, full=full, truncate=truncate)
    ramped = min(images, RAMP_UP * images_seen) if ramps else images
    if average.mode == "mode1":
        return _halved(batch, ramped)
    stretch = FULL_SET / n
    if average.mode == "mode2":
        return _halved(FULL_BATCH, ramped * stretch)
    plateau = _halved(batch, images * stretch)
    return (average.final or 0) * _halved(batch, ramped * stretch) / plateau if plateau else 0.0


def _halved(images: int, half_life: float | int) -> float:
    return 0.5 ** (images / half_life) if half_life else 0.0


class NetworkAverages:
    """Averages of a network's parameters, float32, updated together after each step of the optimizer.

    The first update of an average with a ramp-up takes the weights as they are. Parameters are known by name, so that
    `state_dict` goes into a safetensors file and comes back bit for bit.
    """

    def __init__(
        self,
        network: nn.Module,
        averages: Sequence[Average],
        *,
        batch: int,
        n: int,
        full: int = FULL_HALF_LIFE,
        ramps: bool = True,
        truncate: bool = False,
    ) -> None:
        self.averages = tuple(dict.fromkeys(averages))
        self.how: dict[str, Any] = {"batch": batch, "n": n, "full": full, "ramps": ramps, "truncate": truncate}
        self.parameters = dict(network.named_parameters())
        self.shadows = {
            str(average): {name: p.detach().float().clone() for name, p in self.parameters.items()}
            for average in self.averages
        }

    @torch.no_grad()
    def update(self, images_seen: int) -> None:
        """Take in the parameters after a step; images_seen are those before it."""
        weights = [p.detach().float() for p in self.parameters.values()]
        for average in self.averages:
            kept = decay(average, images_seen=images_seen, **self.how)
            torch._foreach_lerp_(list(self.shadows[str(average)].values()), weights, 1 - kept)

    @contextmanager
    def applied(self, name: str) -> Iterator[None]:
        """The network's parameters are the average of that name while the block is open, and themselves after it."""
        parameters = {key: p.detach().clone() for key, p in self.parameters.items()}
        self._set(self._shadow(name))
        try:
            yield
        finally:
            self._set(parameters)

    def state_dict(self) -> dict[str, Tensor]:
        """Every average, each parameter as `average/parameter`."""
        return {f"{name}/{key}": value for name, shadow in self.shadows.items() for key, value in shadow.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state_dict` gave. Raises `UsageError` where another set of averages was saved."""
        held = self.state_dict()
        if set(held) != set(state):
            raise UsageError("The saved averages are not those of this run; give the same averages and network.")
        for key, value in held.items():
            value.copy_(state[key])

    def _shadow(self, name: str) -> dict[str, Tensor]:
        if name not in self.shadows:
            raise UsageError(f"There is no average {name!r}; this run has {', '.join(self.shadows)}.")
        return self.shadows[name]

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for key, parameter in self.parameters.items():
            parameter.copy_(values[key])
