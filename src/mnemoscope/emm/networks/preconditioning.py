"""A denoiser D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) from a network F, for VP, VE, EDM and iDDPM noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf, pi
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from mnemoscope.emm.networks.options import Kind

BETA_RANGE, BETA_MIN, VP_FIRST = 19.9, 0.1, 1e-5
SIGMA_DATA = 0.5
IDDPM_STEPS, IDDPM_FLOOR, IDDPM_OFFSET = 1000, 0.001, 0.008


class Coefficients(NamedTuple):
    """What surrounds a network at noise levels sigma, each of the shape of sigma."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Scheme:
    """A preconditioning: its coefficients, the noise levels it is made for, and those it tells apart (None: all)."""

    name: str
    coefficients: Callable[[Tensor], Coefficients]
    sigma_min: float | int
    sigma_max: float | int
    grid: Float[Tensor, " M"] | None = None


def vp_sigma(t: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Noise level of a time in 0..1 under VP: sigma^2 = exp(9.95 t^2 + 0.1 t) - 1."""
    return torch.expm1(BETA_RANGE / 2 * t.square() + BETA_MIN * t).sqrt()


def vp_time(sigma: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Time in 0..1 of a noise level under VP, the inverse of `vp_sigma`."""
    exponent = torch.log1p(sigma.square())
    return 2 * exponent / (BETA_MIN + (BETA_MIN**2 + 2 * BETA_RANGE * exponent).sqrt())


def _vp(sigma: Tensor) -> Coefficients:
    return Coefficients(torch.ones_like(sigma), -sigma, (1 + sigma.square()).rsqrt(), 999 * vp_time(sigma))


def _ve(sigma: Tensor) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(one, sigma, one, (sigma / 2).log())


def _edm(sigma: Tensor) -> Coefficients:
    total = sigma.square() + SIGMA_DATA**2
    into = total.rsqrt()
    return Coefficients(SIGMA_DATA**2 / total, SIGMA_DATA * sigma * into, into, sigma.log() / 4)


@cache
def iddpm_sigmas() -> Float[Tensor, " M"]:
    """The 1000 noise levels of iDDPM from the largest to the smallest, float64 (Karras et al. 2022, table 1)."""
    places = torch.arange(IDDPM_STEPS + 1, dtype=torch.float64, device="cpu")
    kept = torch.sin(pi / 2 * places / IDDPM_STEPS / (IDDPM_OFFSET + 1)).square()
    levels = [torch.zeros((), dtype=torch.float64)]
    for j in range(IDDPM_STEPS, 0, -1):
        share = (kept[j - 1] / kept[j]).clamp(min=IDDPM_FLOOR)
        levels.append(((levels[-1].square() + 1) / share - 1).sqrt())
    return torch.stack(levels[:0:-1])


Prediction = Literal["epsilon", "v_prediction", "sample"]


def on_grid(name: str, sigmas: Float[Tensor, " M"], times: Tensor, prediction: Prediction = "epsilon") -> Scheme:
    """For a network that knows a list of noise levels, each by its time, and is given input of preserved variance."""

    def coefficients(sigma: Tensor) -> Coefficients:
        into = (1 + sigma.square()).rsqrt()
        skip, out = {
            "epsilon": (torch.ones_like(sigma), -sigma),
            "v_prediction": (into.square(), -sigma * into),
            "sample": (torch.zeros_like(sigma), torch.ones_like(sigma)),
        }[prediction]
        return Coefficients(skip, out, into, times.to(sigma)[nearest(sigmas, sigma)])

    return Scheme(name, coefficients, float(sigmas.min()), float(sigmas.max()), sigmas)


def nearest(sigmas: Float[Tensor, " M"], sigma: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """The place in a list of noise levels of the one nearest to each sigma."""
    return (sigmas.to(sigma) - sigma[..., None]).abs().argmin(-1)


@cache
def scheme(kind: Kind) -> Scheme:
    """The preconditioning of that name."""
    if kind == "iddpm":
        sigmas = iddpm_sigmas()
        return on_grid("iddpm", sigmas, torch.arange(len(sigmas) - 1, -1, -1))
    if kind == "vp":
        first, last = vp_sigma(torch.tensor([VP_FIRST, 1.0], dtype=torch.float64)).tolist()
        return Scheme("vp", _vp, first, last)
    return Scheme("ve", _ve, 0.02, 100) if kind == "ve" else Scheme("edm", _edm, 0, inf)


class Preconditioned(nn.Module):
    """The denoised image (-1..1, float32) of an image with noise of standard deviation sigma.

    `network(x, noise, labels, augment)` is any module whose output has the shape of x. sigma is one number or one a
    sample; labels are whole numbers below `num_classes`, None where it is 0. `noise_input` "log" gives the network
    ln(sigma)/4 whatever the preconditioning. Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based
    Generative Models", table 1.
    """

    def __init__(
        self,
        network: nn.Module,
        kind: Kind | Scheme,
        *,
        channels: int,
        resolution: int,
        num_classes: int = 0,
        noise_input: Literal["own", "log"] = "own",
    ) -> None:
        super().__init__()
        self.network, self.scheme = network, kind if isinstance(kind, Scheme) else scheme(kind)
        self.channels, self.resolution, self.num_classes = channels, resolution, num_classes
        self.noise_input = noise_input

    @property
    def kind(self) -> str:
        """The name of the preconditioning."""
        return self.scheme.name

    @property
    def sigma_min(self) -> float | int:
        """The smallest noise level that the network is made for."""
        return self.scheme.sigma_min

    @property
    def sigma_max(self) -> float | int:
        """The largest noise level that the network is made for."""
        return self.scheme.sigma_max

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        sigma: Float[Tensor, "#B"] | Float[Tensor, ""] | float | int,
        labels: Int[Tensor, " B"] | None = None,
        augment: Float[Tensor, "B 9"] | None = None,
    ) -> Float32[Tensor, "B C H W"]:
        x = x.to(torch.float32)
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(len(x))
        skip, out, into, noise = self.scheme.coefficients(sigma)
        if self.noise_input == "log":
            noise = sigma.log() / 4
        raw = self.network(into[:, None, None, None] * x, noise, labels, augment)
        return skip[:, None, None, None] * x + out[:, None, None, None] * raw.to(torch.float32)

    def round_sigma(self, sigma: Float[Tensor, "*any"] | float | int) -> Float[Tensor, "*any"]:
        """The noise level nearest to sigma that the network tells apart; sigma itself where it knows all."""
        given = torch.as_tensor(sigma, dtype=None if isinstance(sigma, Tensor) else torch.float64)
        grid = self.scheme.grid
        return given if grid is None else grid.to(given)[nearest(grid, given)]
