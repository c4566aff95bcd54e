"""The size of the images that a model draws: its own, or another that was asked for."""

import re
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError
from mnemoscope.model.sides import latent_sides

LARGEST = 16_384  # pixels of a side
FACTORS = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "512x768", or of "512" for a square; raises `UsageError` for anything else."""
    matched = re.fullmatch(r"\s*(\d{1,9})\s*(?:[xX×]\s*(\d{1,9}))?\s*", text)
    sides = (int(matched[1]), int(matched[2] or matched[1])) if matched else (0, 0)
    if not all(0 < side <= LARGEST for side in sides):
        raise UsageError(f"--size {text} is no size; give height x width in pixels, as 512x768, up to {LARGEST}.")
    return sides


def pixels_per_latent(pipe: DiffusionPipeline) -> int:
    """Pixels of a side for each latent: what the autoencoder shrinks by, or 1 where there is none."""
    vae: Any = getattr(pipe, "vae", None)
    if vae is None:
        return 1
    factor = next((value for name in FACTORS if (value := getattr(pipe, name, None))), None)
    return int(factor or 2 ** (len(vae.config.block_out_channels) - 1))


def latent_size(pipe: DiffusionPipeline, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the latents of images of a size; raises `UsageError` for one that the networks cannot do."""
    factor = pixels_per_latent(pipe)
    network: Any = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    step = factor * _step(network)
    if any(side % step for side in size):
        given = "x".join(map(str, size))
        raise UsageError(f"The size {given} cannot be drawn: height and width must be multiples of {step} here.")
    if size[0] != size[1] and "num_embeds_ada_norm" in network.config:
        raise UsageError(
            f"The size {size[0]}x{size[1]} cannot be drawn: a {type(network).__name__} draws squares only."
        )
    return size[0] // factor, size[1] // factor


def _step(network: Any) -> int:
    """Latents of a side come in multiples of this."""
    config = network.config
    if patch := config.get("patch_size"):
        return int(patch) if isinstance(patch, int) else int(patch[-1])
    plain = "cross_attention_dim" not in config and "block_out_channels" in config  # such a U-Net does not pad
    return 2 ** (len(config.block_out_channels) - 1) if plain else 1


def make_own(pipe: DiffusionPipeline, size: tuple[int, int]) -> None:
    """Write a size into the configuration of a pipeline's U-Net, so that it is saved, and drawn, at this size.

    A transformer's is left alone: it says which positions it was trained with.
    """
    height, width = latent_size(pipe, size)
    network: Any = pipe.unet
    side = network.config.get("sample_size")
    listed = isinstance(side, list | tuple) or height != width
    network.register_to_config(sample_size=[height, width] if listed else height)
    if hasattr(pipe, "_is_unet_config_sample_size_int"):  # what pipelines noted when they were made
        pipe._is_unet_config_sample_size_int = not listed
    if hasattr(pipe, "default_sample_size") and not listed:
        pipe.default_sample_size = height


def own_size(pipe: DiffusionPipeline) -> tuple[int, int] | None:
    """Height and width in pixels that a pipeline draws at by its configuration, where it says them."""
    network: Any = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    size = network.config.get("sample_size")
    if size is None:
        return None
    factor = pixels_per_latent(pipe)
    height, width = latent_sides(size)
    return height * factor, width * factor
