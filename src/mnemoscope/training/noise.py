"""What a training step draws, what the network sees of it, and what it has to predict."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import schedule


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch, each sample's from generators of its own, keyed by seed, step, place and purpose.

    `places` are the samples' places in the whole batch of an optimizer step, over all processes and accumulated parts:
    what a sample draws does not depend on how that batch is divided. Purposes do not disturb one another, so that an
    option leaves everything else that is drawn as it was. Drawn on the CPU.
    """

    seed: int
    step: int
    places: Sequence[int]

    @classmethod
    def of(cls, seed: int, step: int, part: int, size: int) -> "Draws":
        """Those of part number `part` of a step's batch, all parts having `size` samples; a rank is a part."""
        return cls(seed, step, range(part * size, (part + 1) * size))

    def normal(self, purpose: str, shape: Sequence[int]) -> Float[Tensor, "B ..."]:
        """Standard normal numbers, of this shape for each sample."""
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators(purpose)])

    def integers(self, purpose: str, low: int, high: int) -> Int[Tensor, " B"]:
        """A whole number from low to high - 1 for each sample, all equally likely."""
        return torch.cat([torch.randint(low, high, (1,), generator=g) for g in self._generators(purpose)])

    def uniform(self, purpose: str) -> Float[Tensor, " B"]:
        """A number from 0 to 1 for each sample."""
        return torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators(purpose)])

    def permutation(self, purpose: str) -> Int[Tensor, " B"]:
        """An order of the batch; it depends on the place of its first sample."""
        return torch.randperm(len(self.places), generator=next(self._generators(purpose)))

    def _generators(self, purpose: str) -> Iterator[torch.Generator]:
        for place in self.places:
            yield keyed(purpose, self.seed, self.step, place)


def keyed(purpose: str, *numbers: int) -> torch.Generator:
    """A generator on the CPU of its own for each purpose and each tuple of numbers."""
    key = random.Random("|".join([purpose, *map(str, numbers)])).getrandbits(63)
    return torch.Generator().manual_seed(key)


@dataclass(frozen=True)
class Noised:
    """Clean latents x_0 and what was made of them: x_t = alpha x_0 + sigma (noise + perturbation)."""

    x_0: Float[Tensor, "B C h w"]
    noise: Float[Tensor, "B C h w"]
    t: Num[Tensor, " B"]
    alpha: Float[Tensor, " B"]
    sigma: Float[Tensor, " B"]
    x_t: Float[Tensor, "B C h w"]

    def target(self, kind: str) -> Float[Tensor, "B C h w"]:
        """What a network of this prediction type has to predict, by the noise without the perturbation."""
        if kind == "epsilon":
            return self.noise
        if kind == "sample":
            return self.x_0
        if kind == "flow_prediction":
            return self.noise - self.x_0
        return wide(self.alpha) * self.noise - wide(self.sigma) * self.x_0


def noised(
    x_0: Float[Tensor, "B C h w"],
    scheduler: Any,
    draws: Draws,
    *,
    noise_offset: int | float = 0,
    input_perturbation: int | float = 0,
    times: Callable[[Any, Draws], Float[Tensor, " B"]] | None = None,
) -> Noised:
    """Noise the latents of a batch at timesteps that are uniform over the scheduler's, or those of `times`, in float32.

    `noise_offset` is the standard deviation of a constant that each channel of a sample's noise is shifted by, and
    that the network has to predict with it. `input_perturbation` is that of further noise, in x_t alone.
    """
    x_0 = x_0.float()
    t = (timesteps(scheduler, draws) if times is None else times(scheduler, draws)).to(x_0.device)
    noise = draws.normal("noise", x_0.shape[1:]).to(x_0.device)
    if noise_offset:
        noise = noise + noise_offset * draws.normal("noise_offset", (x_0.shape[1], 1, 1)).to(x_0.device)
    seen = noise
    if input_perturbation:
        seen = noise + input_perturbation * draws.normal("input_perturbation", x_0.shape[1:]).to(x_0.device)
    alpha, sigma = levels(scheduler, t)
    return Noised(x_0, noise, t, alpha, sigma, wide(alpha) * x_0 + wide(sigma) * seen)


def timesteps(scheduler: Any, draws: Draws) -> Int[Tensor, " B"]:
    """A timestep for each sample, uniform over the scheduler's: 0 to T - 1, or 1 to T for a flow."""
    first = int(schedule.prediction_type(scheduler) == "flow_prediction")
    return draws.integers("timestep", first, first + scheduler.config.num_train_timesteps)


def levels(scheduler: Any, t: Num[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Scales (alpha, sigma) of the clean latents and of the noise at each timestep, in float32."""
    if schedule.prediction_type(scheduler) == "flow_prediction":
        q = t.float() / scheduler.config.num_train_timesteps
        return 1 - q, q
    alpha_bar = scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def trained_prediction(scheduler: Any, asked: str | None) -> str:
    """What the network is trained to predict: what is asked for, or else what the scheduler says.

    Raises `UsageError` for a type that there is not, or that does not go with the scheduler's noise levels.
    """
    prediction = schedule.prediction_type(scheduler)
    if asked is None:
        return prediction
    flow = prediction == "flow_prediction"
    fitting = [k for k in schedule.PREDICTION_TYPES if (k == "flow_prediction") == flow]
    if asked not in fitting:
        raise UsageError(f"--prediction-type {asked} does not go with this scheduler; give {' or '.join(fitting)}.")
    return asked


def wide(values: Float[Tensor, " B"]) -> Float[Tensor, "B 1 1 1"]:
    """One number a sample, ready to multiply its latents."""
    return values[:, None, None, None]
