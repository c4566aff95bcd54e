"""Drawing 8-bit images from a denoiser: every image has a generator of its own, so no batch changes it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mnemoscope.emm.sampling.samplers import ImageDenoiser, edm_sample
from mnemoscope.errors import UsageError

SEEDS = 2**32


def to_uint8(x: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Pixels from [-1, 1] as bytes: 127.5 x + 128, cut to 0..255, without its fraction; v / 127.5 - 1 comes back as v.

    Raises `UsageError` for a pixel that is no number.
    """
    pixels = x.double() * 127.5 + 128
    if not bool(pixels.isfinite().all()):
        raise UsageError("A sampled image has pixels that are no numbers; the network has diverged.")
    return pixels.clamp(0, 255).to(torch.uint8)


def sample_images(
    denoiser: ImageDenoiser,
    seeds: Sequence[int],
    *,
    shape: tuple[int, int, int],
    batch_size: int = 256,
    label: int | None = None,
    device: str | torch.device = "cpu",
    sampler: Callable[..., Tensor] = edm_sample,
    **options: Any,
) -> tuple[UInt8[np.ndarray, "N C H W"], Int[np.ndarray, " N"] | None]:
    """8-bit images of a denoiser, one for each seed, and their labels; None without labels.

    Latent, then label, then the noise of a sampler with churn come from a generator on the CPU that the seed alone
    (mod 2^32) sets: the images depend neither on the batch they are drawn in nor on the device, up to the rounding of
    the network. Labels are uniform over the classes of the denoiser unless `label` fixes one. `options` are the
    sampler's. Raises `UsageError` for a label that the denoiser has not.
    """
    classes = int(denoiser.num_classes)
    _check(label, classes, batch_size)
    if torch.device(device).type == "mps":
        denoiser, device = Single(denoiser, device), "cpu"
    images = np.empty((len(seeds), *shape), np.uint8)
    labels = np.empty(len(seeds), np.int64) if classes else None
    for start in range(0, len(seeds), batch_size):
        part = slice(start, start + batch_size)
        latents, drawn, generators = draw(seeds[part], shape, classes, label)
        placed = None if drawn is None else drawn.to(device)
        x = sampler(denoiser, latents.to(device), placed, generators=generators, **options)
        images[part] = to_uint8(x).cpu().numpy()
        if labels is not None and drawn is not None:
            labels[part] = drawn.numpy()
    return images, labels


class Single:
    """A denoiser on a device that has no float64: x comes as float32, the state of the sampler stays on the CPU."""

    def __init__(self, denoiser: Any, device: str | torch.device) -> None:
        self.denoiser, self.device = denoiser, device
        self.sigma_min, self.sigma_max = float(denoiser.sigma_min), float(denoiser.sigma_max)
        self.num_classes = int(denoiser.num_classes)

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        placed = None if labels is None else labels.to(self.device)
        return self.denoiser(x.float().to(self.device), sigma.float().to(self.device), placed).cpu()

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return self.denoiser.round_sigma(sigma.float().to(self.device)).cpu().double()


def draw(
    seeds: Sequence[int], shape: tuple[int, int, int], num_classes: int = 0, label: int | None = None
) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, " B"] | None, list[torch.Generator]]:
    """Standard normal latents, labels and generators of the images with these numbers, each from its own generator."""
    generators = [torch.Generator().manual_seed(seed % SEEDS) for seed in seeds]
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators])
    if not num_classes:
        return latents, None, generators
    labels = torch.cat([torch.randint(num_classes, (1,), generator=g) for g in generators])
    return latents, labels if label is None else torch.full_like(labels, label), generators


def _check(label: int | None, num_classes: int, batch_size: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size was {batch_size}; at least 1 is needed.")
    if label is not None and not num_classes:
        raise UsageError(f"Label {label} was asked for, but the denoiser has no labels; leave it out.")
    if label is not None and not 0 <= label < num_classes:
        raise UsageError(f"Label {label} was asked for, but the denoiser has labels 0 to {num_classes - 1}.")
