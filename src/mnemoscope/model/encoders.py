"""Pixels in [-1, 1] into clean latents, for autoencoders beyond Stable Diffusion's: the inverse of `decoders`."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Encode = Callable[[Any, Float[Tensor, "N 3 H W"]], Float[Tensor, "N C h w"]]


def without_posterior(vae: Any, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
    """Scaled latents of an autoencoder that gives no distribution (Sana)."""
    return vae.encode(pixels).latent * vae.config.scaling_factor


def by_statistics(vae: Any, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
    """As a video's only frame, by mean and deviation of each channel (Qwen-Image, Wan)."""
    latents = vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    mean, deviation = (torch.tensor(vae.config[k]).view(1, -1, 1, 1) for k in ("latents_mean", "latents_std"))
    return (latents - mean.to(latents)) * (1.0 / deviation.to(latents))  # as the pipelines round


def by_batch_norm(vae: Any, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
    """As patches, by the running statistics of the autoencoder's batch norm (FLUX.2)."""
    latents = torch.nn.functional.pixel_unshuffle(vae.encode(pixels).latent_dist.mode(), 2)
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(latents)
    deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(latents)
    return (latents - mean) / deviation


def by_video_scale(vae: Any, pixels: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
    """As a video's only frame, by the autoencoder's statistics and scale (LTX)."""
    latents = vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    mean, deviation = (v.view(1, -1, 1, 1).to(latents) for v in (vae.latents_mean, vae.latents_std))
    return (latents - mean) * vae.config.scaling_factor / deviation


ENCODERS: dict[str, Encode] = {
    "AutoencoderDC": without_posterior,
    "AutoencoderKLFlux2": by_batch_norm,
    "AutoencoderKLQwenImage": by_statistics,
    "AutoencoderKLWan": by_statistics,
    "AutoencoderKLLTXVideo": by_video_scale,
}
