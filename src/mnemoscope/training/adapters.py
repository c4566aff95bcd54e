"""LoRA adapters of a U-Net: added, written and read as diffusers has them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.lora_file import SIZE_MARK
from mnemoscope.model.weights.marks import read_header
from mnemoscope.model.weights.size import own_size
from mnemoscope.training.options import TrainOptions

PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def add(unet: Any, options: TrainOptions) -> None:
    """Add an adapter to the attention's projections, or to all linear layers and convolutions, keyed by the seed.

    Only its weights require gradients.

    Raises `UsageError` where peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as e:
        raise UsageError("A LoRA needs peft: pip install 'mnemoscope[lora]'.") from e
    alpha = options.lora_rank if options.lora_alpha is None else options.lora_alpha
    layers = PROJECTIONS if options.lora_layers == "attention" else _all_layers(unet)
    config = LoraConfig(r=options.lora_rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=layers)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        unet.add_adapter(config)


def _all_layers(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def write(pipe: DiffusionPipeline, folder: Path) -> None:
    """Write the adapter as a folder that `--lora` and diffusers read."""
    from peft.utils import get_peft_model_state_dict

    weights = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    config = pipe.unet.peft_config["default"].to_dict()
    about = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    type(pipe).save_lora_weights(folder, unet_lora_layers=weights, unet_lora_adapter_metadata=about)
    _mark(folder / "pytorch_lora_weights.safetensors", own_size(pipe))


def _mark(file: Path, size: tuple[int, int] | None) -> None:
    """Write the size that a LoRA was trained at into its header."""
    from safetensors.torch import load_file, save_file

    if size is not None:
        _, header = read_header(file)
        save_file(load_file(file), file, metadata={**header, SIZE_MARK: "x".join(map(str, size))})


def read(pipe: DiffusionPipeline, folder: Path) -> None:
    """Take the weights of an adapter of the same shape."""
    from peft.utils import set_peft_model_state_dict

    saved, _ = type(pipe).lora_state_dict(folder, use_safetensors=True, local_files_only=True)
    own = {k.removeprefix("unet."): v for k, v in saved.items() if k.startswith("unet.")}
    set_peft_model_state_dict(pipe.unet, convert_unet_state_dict_to_peft(own), adapter_name="default")
