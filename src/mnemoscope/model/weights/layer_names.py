"""Which layer of a pipeline a name in a LoRA file means, whatever tool wrote it."""

import re
from collections.abc import Iterator
from typing import Any

from diffusers import DiffusionPipeline
from torch import nn

from mnemoscope.model.weights.transformer_names import published

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
PREFIXES = {  # what tools put before the name of a layer, and the components that it can then be of
    "unet.": ("unet",),
    "transformer.": ("transformer",),
    "text_encoder.": ("text_encoder",),
    "text_encoder_2.": ("text_encoder_2",),
    "text_encoder_3.": ("text_encoder_3",),
    "text_encoders.clip_l.transformer.": ("text_encoder",),
    "text_encoders.clip_g.transformer.": ("text_encoder_2",),
    "text_encoders.t5xxl.transformer.": ("text_encoder_2", "text_encoder_3"),
    "diffusion_model.": ("unet", "transformer"),
    "lora_unet_": ("unet", "transformer"),
    "lora_transformer_": ("transformer",),
    "lora_te_": ("text_encoder",),
    "lora_te1_": ("text_encoder",),
    "lora_te2_": ("text_encoder_2",),
    "lora_te3_": ("text_encoder_3",),
    "lycoris_": ("unet", "transformer"),
}
RESNET = {  # the parts of a residual block, in the names of the original code
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}

JOINED = {  # projections that are one layer in some files, in the order of their outputs
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "in_proj": ("q_proj", "k_proj", "v_proj"),
    "qkv": ("q", "k", "v"),
    "linear1": ("q", "k", "v", "mlp"),
}


class Layers:
    """The layers of a pipeline by every name that a LoRA file may give them."""

    def __init__(self, pipe: DiffusionPipeline) -> None:
        parts = {name: getattr(pipe, name, None) for name in COMPONENTS}
        self.tables = {n: dict(_names(n, part)) for n, part in parts.items() if isinstance(part, nn.Module)}

    def find(self, stem: str, only: str | None = None) -> list[tuple[str, str, nn.Module]]:
        """(component, layer, module) of each layer that a name can mean; `only` is the component, where it is known."""
        stem = stem.removeprefix("base_model.model.").removeprefix("base_model.")
        prefix = next((p for p in PREFIXES if stem.startswith(p)), "")
        rest = stem.removeprefix(prefix).removeprefix("base_model.model.").replace(".", "_")
        among = PREFIXES[prefix] if prefix else COMPONENTS
        modules = []
        for component in among if only is None else (only,):
            if (layer := self.tables.get(component, {}).get(rest)) is not None:
                modules.append((component, *layer))
        return modules

    def apart(self, stem: str, only: str | None = None) -> list[tuple[str, int]] | None:
        """The layers that a name of joined projections stands for, as a file would call them, and their outputs.

        None for another name.
        """
        for joined, names in JOINED.items():
            if stem.endswith((f".{joined}", f"_{joined}")):
                stems = [stem.removesuffix(joined) + name for name in names]
                places = [self.find(each, only) for each in stems]
                if all(len(found) == 1 for found in places):
                    sizes = [len(found[0][2].get_parameter("weight")) for found in places]
                    return list(zip(stems, sizes, strict=True))
        return None


def _names(component: str, part: nn.Module) -> Iterator[tuple[str, tuple[str, nn.Module]]]:
    """Each name of each layer with weights, its dots as underscores, with its name in the network and the layer."""
    for name, module in part.named_modules():
        if not isinstance(getattr(module, "weight", None), nn.Parameter):
            continue
        spelt = {name, re.sub(r"\.to_out\.0$", ".to_out", name)}
        if component == "unet":
            spelt |= {_original(each, part) for each in set(spelt)}
        elif component == "transformer":
            theirs = published(name, type(part).__name__, tuple(module.weight.shape))
            spelt |= {theirs} if theirs else set()
        elif component.startswith("text_encoder"):
            spelt |= {"text_model." + name, name.removeprefix("text_model.")}
        for each in spelt:
            yield each.replace(".", "_"), (name, module)


def _original(name: str, unet: Any) -> str:
    """A layer of a conditional U-Net in the names of the original code, as in input_blocks.1.1.proj_in."""
    for end, other in ENDS.items():
        if name == end:
            return other
    config = unet.config
    depth = config.get("layers_per_block")
    if not isinstance(depth, int):
        return name
    matched = re.fullmatch(
        r"(down|up|mid)_blocks?(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
    )
    if matched is None:
        return name
    side, block, kind, number, rest = matched[1], int(matched[2] or 0), matched[3], int(matched[4]), matched[5]
    if kind == "resnets":
        head, _, tail = rest.partition(".")
        rest = RESNET.get(head, head) + (f".{tail}" if tail else "")
    if side == "mid":
        return f"middle_block.{1 if kind == 'attentions' else 2 * number}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (depth + 1)}.0.op"
    if kind == "upsamplers":
        attends = "CrossAttn" in config.up_block_types[block]
        return f"output_blocks.{(block + 1) * (depth + 1) - 1}.{2 if attends else 1}.conv"
    place = 1 + block * (depth + 1) + number if side == "down" else block * (depth + 1) + number
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{place}.{1 if kind == 'attentions' else 0}.{rest}"
