"""The generalised sampler: solver, noise levels, schedule and scaling are chosen apart; Karras et al. 2022."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from mnemoscope.emm.sampling.samplers import INFINITE, Churn, ImageDenoiser, Samples, edm_levels, noise_range
from mnemoscope.errors import UsageError

BETA_D, BETA_MIN = 19.9, 0.1  # of the VP schedule
Discretization = Literal["vp", "ve", "iddpm", "edm"]


@torch.no_grad()
def ablation_sample(
    denoiser: ImageDenoiser,
    latents: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | None = None,
    *,
    num_inference_steps: int = 18,
    sigma_min: int | float | None = None,
    sigma_max: int | float | None = None,
    rho: int | float = 7,
    solver: Literal["euler", "heun"] = "heun",
    discretization: Discretization = "edm",
    schedule: Literal["vp", "ve", "linear"] = "linear",
    scaling: Literal["vp", "none"] = "none",
    epsilon_s: int | float = 1e-3,
    C_1: int | float = 0.001,
    C_2: int | float = 0.008,
    M: int = 1000,
    alpha: int | float = 1,
    S_churn: int | float = 0,
    S_min: int | float = 0,
    S_max: int | float = INFINITE,
    S_noise: int | float = 1,
    generators: Sequence[torch.Generator] | None = None,
    early_exit: bool = True,
) -> Float64[Tensor, "B C H W"]:
    """Images drawn with a solver, noise levels, schedule sigma(t) and scaling s(t) of one's choice, in about [-1, 1].

    `discretization` says at which noise levels, `schedule` in which time a step is straight, `scaling` what x is times
    of the noisy image. `alpha` is the share of a step after which the second slope is taken: 1 is Heun's method, 1/2
    the midpoint. The range of noise levels is the one usual for the discretization where none is given, cut to the
    denoiser's own. With the defaults it is `edm_sample`. `early_exit` has an effect only with the linear schedule and
    without scaling and churn, where steps toward a fixed image are straight. Raises `UsageError` for what is outside
    its range. Karras et al. 2022, table 1, algorithms 1 and 2 with the general second-order step of appendix D.
    """
    _check(alpha, epsilon_s, M)
    usual = _usual_range(discretization, epsilon_s)
    asked = (usual[0] if sigma_min is None else sigma_min, usual[1] if sigma_max is None else sigma_max)
    low, high = noise_range(denoiser, *asked, num_inference_steps)
    vp = _vp_through(low, high, epsilon_s)
    sigmas = _levels(num_inference_steps, low, high, discretization, rho, vp, (C_1, C_2, M, epsilon_s))
    curve: Vp | Ve | LinearSchedule = {"vp": vp, "ve": Ve(), "linear": LinearSchedule()}[schedule]  # type: ignore[assignment]
    times = curve.time(denoiser.round_sigma(sigmas.to(latents.device)))
    times = torch.cat([times, times.new_zeros(1)])
    flow = Flow(
        denoiser, curve, scaling == "vp", early_exit and schedule == "linear" and scaling == "none" and not S_churn
    )
    samples = Samples(latents.double() * curve.sigma(times[0]) * flow.scale(times[0]), labels)
    noise = Churn(num_inference_steps, S_churn, S_min, S_max, S_noise, generators)
    for i, (now, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        if not len(samples.x):
            break
        second = solver == "heun" and i < num_inference_steps - 1
        flow.step(samples, now, after, noise, alpha if second else None)
    return samples.finished()


@dataclass(frozen=True)
class Vp:
    """sigma(t) of the variance-preserving process: sigma^2 + 1 = exp(beta_d t^2 / 2 + beta_min t)."""

    beta_d: float = BETA_D
    beta_min: float = BETA_MIN

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(self.beta_d * t**2 / 2 + self.beta_min * t).sqrt()

    def slope(self, t: Tensor) -> Tensor:
        sigma = self.sigma(t)
        return (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma) / 2

    def time(self, sigma: Tensor) -> Tensor:
        return ((self.beta_min**2 + 2 * self.beta_d * torch.log1p(sigma**2)).sqrt() - self.beta_min) / self.beta_d


class Ve:
    """sigma(t) of the variance-exploding process: the square root of t."""

    def sigma(self, t: Tensor) -> Tensor:
        return t.sqrt()

    def slope(self, t: Tensor) -> Tensor:
        return 0.5 / t.sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        return sigma**2


class LinearSchedule:
    """sigma(t) = t."""

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def slope(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time(self, sigma: Tensor) -> Tensor:
        return sigma


@dataclass(frozen=True)
class Flow:
    """The differential equation that takes noise to images: dx/dt = (sigma'/sigma + s'/s) x - s sigma'/sigma D(x/s)."""

    denoiser: ImageDenoiser
    curve: Vp | Ve | LinearSchedule
    scaled: bool
    early_exit: bool

    def scale(self, t: Tensor) -> Tensor:
        """s(t)."""
        return (1 + self.curve.sigma(t) ** 2).rsqrt() if self.scaled else torch.ones_like(t)

    def step(self, samples: Samples, now: Tensor, after: Tensor, noise: Churn, alpha: int | float | None) -> None:
        """Take the samples from one time to the next, with a second slope after a share `alpha` of the way."""
        t, x = self._churned(samples.x, now, noise)
        h = after - t
        x, denoised = samples.evaluate(self.denoiser, x, self.curve.sigma(t), self.early_exit, self.scale(t))
        slope = self._slope(x, denoised, t)
        if alpha is None or not len(x):
            samples.x = x + h * slope
            return
        between, point = t + alpha * h, x + alpha * h * slope
        _, denoised = samples.evaluate(self.denoiser, point, self.curve.sigma(between), False, self.scale(between))
        second = self._slope(point, denoised, between)
        samples.x = x + h * ((1 - 0.5 / alpha) * slope + 0.5 / alpha * second)

    def _churned(self, x: Tensor, now: Tensor, noise: Churn) -> tuple[Tensor, Tensor]:
        sigma = self.curve.sigma(now)
        raised = self.denoiser.round_sigma(sigma + noise.share(sigma) * sigma)
        if raised <= sigma:
            return now, x
        t = self.curve.time(raised)
        added = (self.curve.sigma(t) ** 2 - sigma**2).clamp(min=0).sqrt() * self.scale(t)
        return t, self.scale(t) / self.scale(now) * x + added * noise.draw(x)

    def _slope(self, x: Tensor, denoised: Tensor, t: Tensor) -> Tensor:
        sigma, rate, scale = self.curve.sigma(t), self.curve.slope(t), self.scale(t)
        shrinking = -sigma * rate * scale**2 if self.scaled else torch.zeros_like(t)
        return (rate / sigma + shrinking) * x - rate * scale / sigma * denoised


def _check(alpha: int | float, epsilon_s: int | float, M: int) -> None:
    if not 0 < alpha <= 1:
        raise UsageError(f"alpha was {alpha}; give a share of a step above 0 and up to 1.")
    if not 0 < epsilon_s < 1:
        raise UsageError(f"epsilon_s was {epsilon_s}; give a time between 0 and 1.")
    if M < 1:
        raise UsageError(f"M was {M}; give the number of steps of the iDDPM grid, at least 1.")


def _usual_range(discretization: Discretization, epsilon_s: int | float) -> tuple[float, float]:
    ends = Vp().sigma(torch.tensor([float(epsilon_s), 1.0], dtype=torch.float64)).tolist()
    return {"vp": (ends[0], ends[1]), "ve": (0.02, 100.0), "iddpm": (0.002, 81.0), "edm": (0.002, 80.0)}[discretization]


def _vp_through(low: float, high: float, epsilon_s: int | float) -> Vp:
    """The VP schedule that has the lowest noise level at `epsilon_s` and the highest at 1."""
    at_start, at_end = math.log1p(low**2), math.log1p(high**2)
    beta_d = 2 * (at_start / epsilon_s - at_end) / (epsilon_s - 1)
    return Vp(beta_d, at_end - beta_d / 2)


def _levels(
    n: int, low: float, high: float, kind: Discretization, rho: int | float, vp: Vp, rest: tuple
) -> Float64[Tensor, " n"]:
    C_1, C_2, M, epsilon_s = rest
    ramp = torch.arange(n, dtype=torch.float64) / max(n - 1, 1)
    if kind == "edm":
        return edm_levels(n, low, high, rho)
    if kind == "vp":
        return vp.sigma(1 + ramp * (epsilon_s - 1))
    if kind == "ve":
        return high * (low / high) ** ramp
    grid = iddpm_grid(M, C_1, C_2)
    inside = grid[(grid >= low) & (grid <= high)]
    if len(inside) < n:
        raise UsageError(f"The iDDPM grid has {len(inside)} noise levels from {low:g} to {high:g}, not {n}; raise M.")
    return inside[((len(inside) - 1) * ramp).round().long()]


def iddpm_grid(M: int = 1000, C_1: int | float = 0.001, C_2: int | float = 0.008) -> Float64[Tensor, " levels"]:
    """The noise levels of improved DDPM with a cosine schedule, from the highest to 0; Karras et al. 2022, table 1."""
    survival = [math.sin(math.pi / 2 * j / (M * (C_2 + 1))) ** 2 for j in range(M + 1)]
    levels = [0.0]
    for j in range(M, 0, -1):
        kept = max(survival[j - 1] / survival[j], C_1)
        levels.append(math.sqrt((levels[-1] ** 2 + 1) / kept - 1))
    return torch.tensor(levels[::-1], dtype=torch.float64)
