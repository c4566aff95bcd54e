"""Sampling by the noise level itself: Heun's method of EDM with its churn, on a float64 state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int, Num
from torch import Tensor

from mnemoscope.errors import UsageError

INFINITE = float("inf")
MAX_CHURN = 2**0.5 - 1  # share of its own noise level that a step may add


@runtime_checkable
class ImageDenoiser(Protocol):
    """D(x; sigma): the mean of the images that noise of a standard deviation sigma could have made into x.

    Images are in [-1, 1], x is float64, sigma one float64 number. A denoiser with a method `settle` of the same
    arguments, which gives the images and says of each whether all that follows is certain, is left early.
    """

    @property
    def sigma_min(self) -> float:
        """The lowest noise level that it knows."""

    @property
    def sigma_max(self) -> float:
        """The highest noise level that it knows."""

    @property
    def num_classes(self) -> int:
        """How many labels there are; 0 for none."""

    def __call__(self, x: Any, sigma: Any, labels: Any, /) -> Tensor: ...

    def round_sigma(self, sigma: Tensor) -> Tensor: ...


@torch.no_grad()
def edm_sample(
    denoiser: ImageDenoiser,
    latents: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | None = None,
    *,
    num_inference_steps: int = 18,
    sigma_min: int | float = 0.002,
    sigma_max: int | float = 80.0,
    rho: int | float = 7,
    S_churn: int | float = 0,
    S_min: int | float = 0,
    S_max: int | float = INFINITE,
    S_noise: int | float = 1,
    generators: Sequence[torch.Generator] | None = None,
    early_exit: bool = True,
) -> Float64[Tensor, "B C H W"]:
    """Images drawn by Heun's method over the noise levels of EDM, in about [-1, 1], from standard normal latents.

    A step is two evaluations and the last one, down to no noise, a single one. The range of noise levels is cut to the
    denoiser's own. With `S_churn` a step first adds noise, drawn from the generator of each image, at noise levels from
    `S_min` to `S_max`; without, the images follow from the latents. `early_exit` leaves a denoiser that can prove its
    answer final, as the optimal one, at that answer; it has no effect with churn. Raises `UsageError` for less than one
    step, an empty range, or churn without generators. Karras et al. 2022, algorithm 2 and equation 5.
    """
    low, high = noise_range(denoiser, sigma_min, sigma_max, num_inference_steps)
    levels = edm_levels(num_inference_steps, low, high, rho).to(latents.device)
    levels = torch.cat([denoiser.round_sigma(levels), levels.new_zeros(1)])
    samples = Samples(latents.double() * levels[0], labels)
    noise = Churn(num_inference_steps, S_churn, S_min, S_max, S_noise, generators)
    for i, (now, after) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        if not len(samples.x):
            break
        x, sigma = samples.x, denoiser.round_sigma(now + noise.share(now) * now)
        if sigma > now:
            x = x + (sigma**2 - now**2).sqrt() * noise.draw(x)
        x, denoised = samples.evaluate(denoiser, x, sigma, early_exit and not S_churn)
        slope = (x - denoised) / sigma
        samples.x = x + (after - sigma) * slope
        if i < num_inference_steps - 1 and len(x):
            corrected = (samples.x - denoiser(samples.x, after, samples.labels).double()) / after
            samples.x = x + (after - sigma) * (slope + corrected) / 2
    return samples.finished()


def edm_levels(n: int, sigma_min: int | float, sigma_max: int | float, rho: int | float = 7) -> Float64[Tensor, " n"]:
    """Noise levels from the highest to the lowest, evenly spaced after a root of order `rho`; Karras et al., eq. 5."""
    ramp = torch.arange(n, dtype=torch.float64) / max(n - 1, 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


def noise_range(
    denoiser: ImageDenoiser, sigma_min: int | float, sigma_max: int | float, steps: int
) -> tuple[float, float]:
    """The lowest and the highest noise level to sample at, cut to what the denoiser knows."""
    if steps < 1:
        raise UsageError(f"num_inference_steps was {steps}; at least 1 is needed.")
    low, high = max(float(sigma_min), float(denoiser.sigma_min)), min(float(sigma_max), float(denoiser.sigma_max))
    if not 0 < low <= high < INFINITE:
        raise UsageError(f"The noise levels would go from {high:g} to {low:g}; give 0 < sigma_min <= sigma_max.")
    return low, high


@dataclass
class Samples:
    """Samples under way: those that are final leave, the others keep their order."""

    x: Num[Tensor, "B C H W"]
    labels: Int[Tensor, " B"] | None
    final: Tensor = field(init=False)
    places: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.final = torch.empty_like(self.x)
        self.places = torch.arange(len(self.x), device=self.x.device)

    def evaluate(
        self, denoiser: ImageDenoiser, x: Tensor, sigma: Tensor, early_exit: bool, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x of the samples that are not final yet, and what the denoiser makes of each, x / scale being its input."""
        inputs = x if scale is None else x / scale
        settle = getattr(denoiser, "settle", None) if early_exit else None
        if settle is None:
            return x, denoiser(inputs, sigma, self.labels).double()
        denoised, settled = settle(inputs, sigma, self.labels)
        self._leave(settled, denoised)
        return x[~settled], denoised[~settled]

    def _leave(self, settled: Bool[Tensor, " B"], images: Tensor) -> None:
        self.final[self.places[settled]] = images[settled]
        self.places = self.places[~settled]
        self.labels = None if self.labels is None else self.labels[~settled]

    def finished(self) -> Tensor:
        """All samples in their first order."""
        self.final[self.places] = self.x
        return self.final


@dataclass(frozen=True)
class Churn:
    """How much noise a step adds before it takes some away, and where that noise comes from."""

    steps: int
    amount: int | float
    lowest: int | float
    highest: int | float
    factor: int | float
    generators: Sequence[torch.Generator] | None

    def __post_init__(self) -> None:
        if self.amount and self.generators is None:
            raise UsageError("S_churn adds noise; give the generators to draw it from, one for each image.")

    def share(self, sigma: Tensor) -> float:
        """Share of the noise level by which it is raised."""
        return min(self.amount / self.steps, MAX_CHURN) if self.lowest <= float(sigma) <= self.highest else 0.0

    def draw(self, x: Float64[Tensor, "B C H W"]) -> Float64[Tensor, "B C H W"]:
        """Noise of each image from its own generator, times the factor."""
        assert self.generators is not None
        drawn = [torch.randn(x.shape[1:], generator=g, dtype=torch.float64) for g in self.generators]
        return self.factor * torch.stack(drawn).to(x.device)
