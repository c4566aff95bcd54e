"""Latents into pixels in [-1, 1], as each kind of pipeline decodes them."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Decode = Callable[[Any, Float[Tensor, "B C h w"]], Float[Tensor, "B 3 H W"]]


def by_scale(pipe: Any, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
    """Scaled, and shifted where the autoencoder's configuration says so."""
    vae, dtype = pipe.vae, pipe.vae.dtype
    if dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.to(torch.float32)
    latents, shift = latents.to(vae.dtype) / vae.config.scaling_factor, vae.config.get("shift_factor")
    pixels = vae.decode(latents if shift is None else latents + shift, return_dict=False)[0]
    vae.to(dtype)
    return pixels


def by_statistics(pipe: Any, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
    """By mean and deviation of each channel, and as a video's only frame (Qwen-Image, Wan)."""
    vae = pipe.vae
    latents = latents.to(vae.dtype)[:, :, None]
    mean, deviation = (torch.tensor(vae.config[k]).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    inverse = 1.0 / deviation.to(latents)  # as the pipelines round
    return vae.decode(latents / inverse + mean.to(latents), return_dict=False)[0][:, :, 0]


def by_batch_norm(pipe: Any, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
    """By the running statistics of the autoencoder's batch norm, then out of patches (FLUX.2)."""
    norm, epsilon = pipe.vae.bn, pipe.vae.config.batch_norm_eps
    mean = norm.running_mean.view(1, -1, 1, 1).to(latents)
    deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + epsilon).to(latents)
    return pipe.vae.decode(torch.nn.functional.pixel_shuffle(latents * deviation + mean, 2), return_dict=False)[0]


def by_video_scale(pipe: Any, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
    """By the video autoencoder's statistics and scale, as a video's only frame (LTX)."""
    vae = pipe.vae
    mean, deviation = (v.view(1, -1, 1, 1).to(latents) for v in (vae.latents_mean, vae.latents_std))
    latents = (latents * deviation / vae.config.scaling_factor + mean).to(vae.dtype)
    return vae.decode(latents[:, :, None], None, return_dict=False)[0][:, :, 0]
