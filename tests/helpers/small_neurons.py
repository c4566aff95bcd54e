"""A tiny pipeline whose text layers have few neurons."""

import torch

import mnemoscope as mn
import tiny
from mnemoscope.model import ablation


def small(prediction_type: str = "v_prediction", times: float = 30.0) -> mn.Denoiser:
    """56 neurons in seven layers of random weights, in which the text says as much as `times` makes it."""
    shape = {
        "block_out_channels": (8,) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    model = mn.Denoiser(tiny.stable_diffusion(prediction_type, network=tiny.unet(**shape)))
    with torch.no_grad():
        for layer in ablation.layers(model, "all").values():
            layer.weight.mul_(times)
    return model
