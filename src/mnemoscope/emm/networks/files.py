"""Denoisers in files: weights as safetensors, what they belong to as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mnemoscope.emm.networks.building import build
from mnemoscope.emm.networks.options import VERSIONS, Kind, NetworkOptions, require_current
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.networks.published import described, names, unprefixed
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import write_whole

LAYOUTS = {"qkv": ("blocks", "interleaved"), "labels": ("rows", "columns")}


def read_edm(weights: Path, config: Path | None = None, *, preconditioning: Kind | None = None) -> Preconditioned:
    """A denoiser of the SongUNet or ADM family from a safetensors file; nothing is unpickled.

    Weights under EDM's own names say what they belong to, but for the preconditioning. Others need a JSON description:
    `network` (the fields of `NetworkOptions`), `channels`, `resolution`, `num_classes`, and for weights that another
    program named: `names`, from each name here to the one in the file; `qkv`, the order of the rows of the 1x1
    convolution of an attention, `blocks` (all queries, all keys, all values) or `interleaved` (query, key and value of
    each channel in turn); `labels`, whether a label is a row (`rows`) or a column (`columns`) of its matrix. A 1x1
    convolution may lack its last two dimensions. Raises `UsageError` where a weight is missing, left over, or has
    another shape, and for a description of a network that was another one when it was written.
    """
    tensors = _tensors(weights)
    theirs = unprefixed(tensors)
    if config is None and (theirs is None or preconditioning is None):
        raise UsageError(
            f"{weights} does not say what network it is; give its description, or, if the weights have EDM's names, "
            "its --preconditioning."
        )
    settings = described(theirs, str(preconditioning)) if config is None and theirs is not None else _settings(config)
    if config is not None and theirs is None and "names" not in settings:
        require_current(settings["network"].get("architecture", "ddpmpp"), settings.get("version"), str(config))
    options = NetworkOptions.of(settings.get("network", {}))
    about = {name: settings[name] for name in ("channels", "resolution")}
    network = build(options, **about, num_classes=settings.get("num_classes", 0))
    state = network.network.state_dict()
    if theirs is not None and "names" not in settings:
        table = names(state, options, settings["resolution"])
        tensors, settings = theirs, settings | {"names": table, "qkv": "interleaved", "labels": "columns"}
    network.network.load_state_dict(_renamed(state, tensors, settings, weights))
    return network.eval().requires_grad_(False)


def write_edm(network: Preconditioned, options: NetworkOptions, weights: Path, config: Path) -> None:
    """Write what `read_edm` reads."""
    save_file({name: value.contiguous() for name, value in network.network.state_dict().items()}, weights)
    settings = {
        "network": asdict(options),
        "channels": network.channels,
        "resolution": network.resolution,
        "num_classes": network.num_classes,
        "version": VERSIONS[options.architecture],
    }
    write_whole(config, json.dumps(settings, indent=2) + "\n")


def _settings(config: Path | None) -> Json:
    assert config is not None
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{config} is no JSON file that can be read: {e}.") from e
    for name in ("channels", "resolution"):
        if not isinstance(settings, dict) or not isinstance(settings.get(name), int):
            raise UsageError(f"{config} has no whole number {name!r}; give the network's description.")
    for name, known in LAYOUTS.items():
        if settings.get(name, known[0]) not in known:
            raise UsageError(f"{config} has {name} {settings[name]!r}; give {' or '.join(known)}.")
    return settings


def _tensors(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights)
    except FileNotFoundError as e:
        raise UsageError(f"{weights}: no such file; give a .safetensors file or a run of emm train.") from e
    except (OSError, SafetensorError) as e:
        raise UsageError(f"{weights} is no safetensors file that can be read; convert the checkpoint first.") from e


def _renamed(
    state: Mapping[str, Tensor], given: Mapping[str, Tensor], settings: Mapping[str, Any], weights: Path
) -> dict[str, Tensor]:
    names = settings.get("names", {})
    theirs = {name: names.get(name, name) for name in state}
    if missing := sorted(set(theirs.values()) - set(given)):
        raise UsageError(f"{weights} lacks {missing[0]!r} and {len(missing) - 1} more; give their names under 'names'.")
    if left := sorted(set(given) - set(theirs.values())):
        raise UsageError(f"{weights} has {left[0]!r} and {len(left) - 1} more that this network has no place for.")
    return {name: _fitted(name, given[theirs[name]], value, settings, weights) for name, value in state.items()}


def _fitted(name: str, value: Tensor, parameter: Tensor, settings: Mapping[str, Any], weights: Path) -> Tensor:
    if name.endswith("label.weight") and settings.get("labels") == "columns":
        value = value.mT
    if value.numel() != parameter.numel() or value.shape != parameter.shape[: value.ndim]:
        raise UsageError(
            f"{weights} has {name} of shape {tuple(value.shape)}; this network's is {tuple(parameter.shape)}."
        )
    value = value.reshape(parameter.shape)
    if ".qkv." in name and settings.get("qkv") == "interleaved":
        value = value.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return value.to(torch.float32)
