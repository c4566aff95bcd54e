"""Images into a pipeline's clean latents: the way back from decoding."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from mnemoscope.model.device import working_on
from mnemoscope.model.encoders import ENCODERS
from mnemoscope.model.rows import ROWS


@torch.no_grad()
def encode_images(
    pipe: DiffusionPipeline, images: Sequence[Image.Image], latent_shape: tuple[int, int, int]
) -> Float[Tensor, "N C h w"]:
    """Clean latents of images: the mean of the autoencoder's posterior, scaled; pixels in [-1, 1] where it has none.

    Images are cropped in the middle and resized to the model's own resolution; video autoencoders see one frame.
    """
    vae = getattr(pipe, "vae", None)
    encode = ENCODERS.get(type(vae).__name__)
    factor = pixels_of_latent(pipe, vae)
    size = (latent_shape[2] * factor, latent_shape[1] * factor)
    fitted = [ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS) for image in images]
    pixels = VaeImageProcessor(do_resize=False).preprocess(fitted)
    if vae is None:
        return pixels.to(pipe.device)
    if encode:
        return encode(vae, pixels.to(working_on(vae), vae.dtype)).float()
    return scaled(vae, posterior(vae, pixels)[0])


def pixels_of_latent(pipe: DiffusionPipeline, vae: Any) -> int:
    """Pixels of a side of the image for each of the latents, as the autoencoder has it."""
    if vae is None:
        return 1
    if type(vae).__name__ in ENCODERS:
        return ROWS[type(pipe).__name__].pixels(pipe)
    return 2 ** (len(vae.config.block_out_channels) - 1)


@torch.no_grad()
def posterior(vae: Any, pixels: Float[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "N C h w"], Float[Tensor, "N C h w"]]:
    """Mean and deviation of an autoencoder's posterior for pixels in [-1, 1], not scaled, in float32."""
    dtype = vae.dtype
    if dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.to(torch.float32)
    distribution = vae.encode(pixels.to(working_on(vae), vae.dtype)).latent_dist
    mean, deviation = distribution.mean.float(), distribution.std.float()
    vae.to(dtype)
    return mean, deviation


def scaled(vae: Any, latents: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    """Latents of an autoencoder in the units of its network, shifted and scaled as its configuration says."""
    mean, deviation = _row(vae, "latents_mean", 0), _row(vae, "latents_std", 1)
    shifted = (latents - mean.to(latents)) / deviation.to(latents)
    return (shifted - (vae.config.get("shift_factor") or 0)) * vae.config.scaling_factor


def _row(vae: Any, name: str, otherwise: int) -> Float[Tensor, "1 _ 1 1"]:
    """A statistic of each latent channel, where the autoencoder's configuration has it."""
    values = vae.config.get(name)
    return torch.tensor([otherwise] if values is None else values).float().view(1, -1, 1, 1)
