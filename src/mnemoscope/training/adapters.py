"""LoRA adapters of a U-Net or a transformer: added, written and read as diffusers has them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers, convert_unet_state_dict_to_peft
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.lora_file import FILES, SIZE_MARK
from mnemoscope.model.weights.marks import read_header, save_with_header
from mnemoscope.model.weights.size import own_size
from mnemoscope.training.options import TrainOptions

PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]
JOINT = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]  # the text's own, where text and image attend jointly


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
    joint = [n for n in JOINT if any(name.endswith(n) for name, _ in unet.named_modules())]
    layers = [*PROJECTIONS, *joint] if options.lora_layers == "attention" else _all_layers(unet)
    config = LoraConfig(r=options.lora_rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=layers)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        unet.add_adapter(config)


def _all_layers(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def write(pipe: DiffusionPipeline, folder: Path) -> None:
    """Write the adapter as a folder that `--lora` and diffusers read."""
    from peft.utils import get_peft_model_state_dict

    part = _part(pipe)
    network = getattr(pipe, part)
    weights = get_peft_model_state_dict(network)
    weights = convert_state_dict_to_diffusers(weights) if part == "unet" else weights
    config = network.peft_config["default"].to_dict()
    about = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    given = {f"{part}_lora_layers": weights, f"{part}_lora_adapter_metadata": about}
    type(pipe).save_lora_weights(folder, **given)
    size = own_size(pipe) if part == "unet" else None  # a transformer is not made to be of the size it was trained at
    _mark(folder / FILES[0], {} if size is None else {SIZE_MARK: "x".join(map(str, size))})


def _mark(file: Path, marks: dict[str, str]) -> None:
    """Add fields to the header of a LoRA."""
    from safetensors.torch import load_file

    _, header = read_header(file)
    save_with_header(load_file(file), file, {**header, **marks})


def read(pipe: DiffusionPipeline, folder: Path) -> None:
    """Take the weights of an adapter of the same shape."""
    from peft.utils import set_peft_model_state_dict

    part = _part(pipe)
    found = type(pipe).lora_state_dict(folder, use_safetensors=True, local_files_only=True)
    saved = found[0] if isinstance(found, tuple) else found
    of_unet = {k.removeprefix(f"{part}."): v for k, v in saved.items() if k.startswith(f"{part}.")}
    of_unet = convert_unet_state_dict_to_peft(of_unet) if part == "unet" else of_unet
    set_peft_model_state_dict(getattr(pipe, part), of_unet, adapter_name="default")


def _part(pipe: DiffusionPipeline) -> str:
    """The component that the adapter is in."""
    return "unet" if hasattr(pipe, "unet") else "transformer"
