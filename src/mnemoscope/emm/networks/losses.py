"""The denoising losses of VP, VE, EDM and iDDPM training, and what they draw."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from mnemoscope.emm.networks.options import Kind
from mnemoscope.emm.networks.preconditioning import SIGMA_DATA, VP_FIRST, Preconditioned, Scheme, scheme, vp_sigma
from mnemoscope.errors import UsageError

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2
VE_FIRST, VE_LAST = 0.02, 100


@dataclass(frozen=True)
class LossDraws:
    """What a loss draws for a batch: noise levels, and standard normal noise of the shape of the images."""

    sigma: Float[Tensor, " B"]
    noise: Float[Tensor, "B C H W"]


def draw(kind: Kind | Scheme, shape: tuple[int, ...], generator: torch.Generator) -> LossDraws:
    """Noise levels first, then noise, float32 on the generator's device: the same for every device that trains.

    VP: uniform in time from 1e-5 to 1; VE: log-uniform 0.02 to 100; EDM: log-normal, mean -1.2 and deviation 1.2 of
    ln(sigma); iDDPM and every other list of noise levels: uniform over the list. Karras et al. 2022, table 1.
    """
    sigma = _sigma(scheme(kind) if isinstance(kind, str) else kind, shape[0], generator)
    return LossDraws(sigma, torch.randn(shape, generator=generator, device=generator.device))


def _sigma(noise: Scheme, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    device = generator.device
    if noise.grid is not None:
        places = torch.randint(len(noise.grid), (count,), generator=generator, device=device)
        return noise.grid.to(device)[places].to(torch.float32)
    if noise.name == "edm":
        return (torch.randn(count, generator=generator, device=device) * LOG_SIGMA_STD + LOG_SIGMA_MEAN).exp()
    u = torch.rand(count, generator=generator, device=device)
    if noise.name == "vp":
        return vp_sigma(VP_FIRST + u * (1 - VP_FIRST))
    return VE_FIRST * (u * log(VE_LAST / VE_FIRST)).exp()


def weight(kind: str, sigma: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Weight of the squared error at a noise level: 1/sigma^2, and 1/sigma^2 + 1/0.25 for EDM."""
    return sigma.square().reciprocal() + (SIGMA_DATA**-2 if kind == "edm" else 0)


def loss(
    network: Preconditioned,
    y: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | None = None,
    *,
    kind: Kind | None = None,
    draws: LossDraws | None = None,
    generator: torch.Generator | None = None,
    augment: Float[Tensor, "B 9"] | None = None,
) -> Float32[Tensor, " B"]:
    """Weighted squared error of the denoised image, summed over pixels, one number a sample.

    y is in -1..1. What is random is given as `draws` or drawn from `generator` (best one of the CPU). `kind` is the
    loss of another preconditioning than the network's own. Comparable between networks trained by the same kind at one
    image size only. Raises `UsageError` where neither draws nor a generator is given.
    """
    noise = network.scheme if kind is None else scheme(kind)
    if draws is None:
        if generator is None:
            raise UsageError("A loss needs its random numbers; give draws or a generator.")
        draws = draw(noise, tuple(y.shape), generator)
    sigma, y = draws.sigma.to(y.device), y.to(torch.float32)
    noisy = torch.addcmul(y, sigma[:, None, None, None], draws.noise.to(y.device))
    errors = (network(noisy, sigma, labels, augment) - y).square().sum(dim=(1, 2, 3))
    return weight(noise.name, sigma) * errors
