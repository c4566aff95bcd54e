"""The names under which EDM's program keeps the weights of these networks, and what they tell of the network."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mnemoscope.emm.networks.options import Architecture, NetworkOptions, resolutions
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json

PREFIXES = ("", "network.", "model.", "module.")
CONDITIONING = {
    **{"noise.frequencies": "map_noise.freqs", "label": "map_label", "augment": "map_augment"},
    **{"first": "map_layer0", "second": "map_layer1"},
}
IN_A_BLOCK = {"attention.norm": "norm2", "attention.qkv": "qkv", "attention.out": "proj"}
FILTER = ".resample_filter"  # fixed by the architecture


def unprefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights by EDM's own names, without filters and what is outside the network; None where they have others."""
    for prefix in PREFIXES:
        if f"{prefix}map_layer0.weight" in tensors:
            named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            return {name: value for name, value in named.items() if not name.endswith(FILTER)}
    return None


def described(tensors: Mapping[str, Tensor], preconditioning: str) -> Json:
    """The options, channels, resolution and number of classes of a network, from the shapes of its weights.

    Raises `UsageError` for weights that are those of no network of the family.
    """
    sizes = sorted(
        {int(matched[1]) for name in tensors if (matched := re.match(r"enc\.(\d+)x\1_", name))}, reverse=True
    )
    try:
        first = tensors[f"enc.{sizes[0]}x{sizes[0]}_conv.weight"]
        firsts = [tensors[f"enc.{size}x{size}_block0.conv0.weight"] for size in sizes]
    except (KeyError, IndexError):
        raise UsageError(
            "These weights have EDM's names but no encoder of its networks; give a whole network."
        ) from None
    width, channels = first.shape[:2]
    options = {
        "architecture": _architecture(tensors),
        "width": width,
        "multipliers": [weight.shape[0] // width for weight in firsts],
        "blocks": len({name.split(".")[1] for name in tensors if name.startswith(f"enc.{sizes[0]}x{sizes[0]}_block")}),
        "attention": [size for size in sizes if f"enc.{size}x{size}_block0.qkv.weight" in tensors],
        "embedding": "fourier" if "map_noise.freqs" in tensors else "positional",
        "dropout": 0,
        "preconditioning": preconditioning,
        "augmentation": "map_augment.weight" in tensors,
    }
    classes = tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0
    return {"network": options, "channels": channels, "resolution": sizes[0], "num_classes": classes}


def _architecture(tensors: Mapping[str, Tensor]) -> Architecture:
    if "out_conv.weight" in tensors:
        return "adm"
    return "ncsnpp" if any("_aux_residual." in name for name in tensors) else "ddpmpp"


def names(keys: Iterable[str], options: NetworkOptions, resolution: int) -> dict[str, str]:
    """EDM's name for each of ours."""
    sizes = [f"{size}x{size}" for size in resolutions(options, resolution)]
    parts = _encoder(options, sizes) | _decoder(options, sizes)
    parts |= {f"conditioning.{name}": theirs for name, theirs in CONDITIONING.items()}
    return {name: _name(name, parts) for name in keys}


def _encoder(options: NetworkOptions, sizes: list[str]) -> dict[str, str]:
    parts = {"encoder.input": f"enc.{sizes[0]}_conv"}
    for level, size in enumerate(sizes):
        parts |= {f"encoder.levels.{level}.{k}": f"enc.{size}_block{k}" for k in range(options.blocks)}
    for level, size in enumerate(sizes[1:]):
        parts |= {f"encoder.downs.{level}": f"enc.{size}_down", f"encoder.pyramid.{level}": f"enc.{size}_aux_residual"}
    return parts


def _decoder(options: NetworkOptions, sizes: list[str]) -> dict[str, str]:
    last = "out" if options.architecture == "adm" else f"dec.{sizes[0]}_aux"
    parts = {"decoder.norm": f"{last}_norm", "decoder.output": f"{last}_conv"}
    parts |= {f"decoder.middle.{k}": f"dec.{sizes[-1]}_in{k}" for k in range(2)}
    for level, size in enumerate(reversed(sizes)):
        parts |= {f"decoder.levels.{level}.{k}": f"dec.{size}_block{k}" for k in range(options.blocks + 1)}
        if level:
            parts[f"decoder.ups.{level - 1}"] = f"dec.{size}_up"
    return parts


def _name(key: str, parts: Mapping[str, str]) -> str:
    """EDM's name of one weight: that of its part, then that of its place in a block."""
    part = max((p for p in parts if key == p or key.startswith(f"{p}.")), key=len)
    rest = key.removeprefix(part)
    for ours, theirs in IN_A_BLOCK.items():
        rest = rest.replace(f".{ours}.", f".{theirs}.")
    return parts[part] + rest
