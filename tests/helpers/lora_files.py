"""A tiny pipeline and a strong random LoRA of it, on the disk."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

import tiny


def saved_with_lora(folder: Path) -> nn.Module:
    """The pipeline in `base`, the LoRA in `lora`; returns the network with the LoRA."""
    tiny.stable_diffusion().save_pretrained(folder / "base")
    network = tiny.unet()
    config = LoraConfig(r=2, lora_alpha=16, target_modules=["to_q", "to_v"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.add_adapter(config)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    about = _collate_lora_metadata({"unet": network})
    StableDiffusionPipeline.save_lora_weights(folder / "lora", unet_lora_layers=layers, **about)
    return network
