"""diffusers networks as denoisers of the EMM experiments, with the same skip mask."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.emm.networks.options import Kind
from mnemoscope.emm.networks.preconditioning import Preconditioned, Scheme, on_grid
from mnemoscope.errors import UsageError
from mnemoscope.model.dry import Arguments


class Adapted(nn.Module):
    """A `UNet2DModel` with the arguments of the EMM networks; it takes labels, and no augmentation."""

    def __init__(self, unet: UNet2DModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        noise: Float[Tensor, " B"] | Int[Tensor, " B"],
        labels: Int[Tensor, " B"] | None = None,
        augment: Float[Tensor, "B 9"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        if augment is not None:
            raise UsageError("A diffusers network is not told of augmentations; train it without.")
        return self.unet(x.to(self.unet.dtype), noise, class_labels=labels).sample


def adapted(
    unet: UNet2DModel,
    kind: Kind | None = None,
    *,
    scheduler: Any = None,
    skips: Sequence[int] | None = None,
) -> Preconditioned:
    """A denoiser around a diffusers `UNet2DModel`: by a preconditioning, or by the scheduler it was trained with.

    With a scheduler that has `alphas_cumprod` (DDPM, DDIM and their like) every noise level is told to the network as
    the nearest of its time steps; it may predict epsilon, v or the sample. `skips` is a mask in encoder order, which
    stays on the network. Raises `UsageError` for a network that divides its output by the time step (fourier), is not
    square, or has other labels than a table, and where not one of kind and scheduler is given.
    """
    if (kind is None) == (scheduler is None):
        raise UsageError("Give either the preconditioning or the scheduler of this network.")
    config = unet.config
    if config.time_embedding_type == "fourier":
        raise UsageError(
            "A fourier UNet2DModel divides its output by the time step; use one with a positional embedding."
        )
    if not isinstance(config.sample_size, int) or config.in_channels != config.out_channels:
        raise UsageError("This network does not map square images to images of as many channels; give another.")
    if config.class_embed_type is not None:
        raise UsageError(f"Labels of type {config.class_embed_type} are not known here; use num_class_embeds.")
    if skips is not None:
        mask_skips(unet, skips)
    return Preconditioned(
        Adapted(unet),
        kind or scheme_of(scheduler),
        channels=config.in_channels,
        resolution=config.sample_size,
        num_classes=config.num_class_embeds or 0,
    )


def scheme_of(scheduler: Any) -> Scheme:
    """The preconditioning of a diffusers scheduler with `alphas_cumprod`. Raises `UsageError` for one without."""
    kept, prediction = getattr(scheduler, "alphas_cumprod", None), scheduler.config.get("prediction_type", "epsilon")
    if kept is None or prediction not in ("epsilon", "v_prediction", "sample"):
        raise UsageError(
            f"{type(scheduler).__name__} with {prediction} prediction is not known here; use a DDPMScheduler."
        )
    kept = kept.double().clamp(min=torch.finfo(torch.float32).tiny)
    return on_grid("ddpm", ((1 - kept) / kept).sqrt(), torch.arange(len(kept)), prediction)


def mask_skips(unet: UNet2DModel, skips: Sequence[int]) -> None:
    """Feed zeros to the decoder of a `UNet2DModel` for each skip connection whose entry is 0, in encoder order.

    Raises `UsageError` for a mask of another length or entries other than 0 and 1.
    """
    taken = [len(block.resnets) for block in unet.up_blocks]
    if len(skips) != sum(taken) or not set(skips) <= {0, 1}:
        raise UsageError(f"The skip mask has {len(skips)} entries; give {sum(taken)} of 0 or 1 for this network.")
    last = len(skips)
    for block, count in zip(unet.up_blocks, taken, strict=True):
        block.register_forward_pre_hook(_masking(tuple(skips[last - count : last])), with_kwargs=True)
        last -= count


def _masking(kept: tuple[int, ...]) -> Any:
    """A hook for an up block: it is given hidden state, skips and the embedding, in this order or by name."""

    def masked(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x if keep else torch.zeros_like(x) for x, keep in zip(outputs, kept, strict=True))

    def hook(block: nn.Module, given: tuple[Any, ...], named: Arguments) -> tuple[tuple[Any, ...], Arguments]:
        if "res_hidden_states_tuple" in named:
            return given, {**named, "res_hidden_states_tuple": masked(named["res_hidden_states_tuple"])}
        return (given[0], masked(given[1]), *given[2:]), named

    return hook
