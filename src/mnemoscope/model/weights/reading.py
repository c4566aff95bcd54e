"""One network from its folder, with every one of its weights from the files that lie there."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json

SHARD = re.compile(r"-\d+-of-\d+")
NAMES = ("diffusion_pytorch_model", "model", "pytorch_model")
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def read_network(
    kind: Any, folder: Path, component: str, dtype: torch.dtype, variant: str | None, messages: list[str]
) -> nn.Module:
    """A network of a class from a folder; raises `UsageError` if any of its weights is not in the files there.

    What the files hold beyond it is added to what is in `messages`.
    """
    chosen = choose_variant(folder, component, variant, messages)
    try:
        network, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            variant=chosen,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with their names
        )
    except Exception as e:  # the libraries raise many kinds for files that are damaged, incomplete or another's
        raise UsageError(f"The {component} of {folder.parent} could not be loaded: {first_line(e)}") from e
    misfits = {name for name, *_ in info["mismatched_keys"]}
    unread = {k for k, v in network.state_dict().items() if v.is_meta}  # an index named them, and no file held them
    info["missing_keys"] = {*info["missing_keys"], *unread - misfits}
    check(component, folder, info, len(network.state_dict()))
    if unused := sorted(info["unexpected_keys"]):
        messages.append(f"{component}: {len(unused)} keys of its files are not used, {some(unused)}.")
    return network


def check(component: str, folder: Path, info: Json, total: int) -> None:
    """Raise `UsageError` for weights that a loader left at random, because they are missing or of another shape."""
    missing, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    others = sorted(info["mismatched_keys"], key=str)
    if missing:
        instead = f"; {len(unused)} keys there are not its own, {some(unused)}" if unused else ""
        raise UsageError(
            f"The {component} in {folder} lacks {len(missing)} of its {total} weights, {some(missing)}{instead}."
        )
    if others:
        name, there, needed = others[0]
        shapes = f"{name} is {list(there)}, and {list(needed)} is needed"
        raise UsageError(f"The {component} in {folder} has {len(others)} weights of another shape: {shapes}.")


def choose_variant(folder: Path, component: str, asked: str | None, messages: list[str]) -> str | None:
    """Which of the kinds of weights in a folder to read: the one asked for, the plain ones, or the only one there."""
    there = variants(folder)
    if not there:
        pickled = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLED)
        if pickled:
            raise UsageError(
                f"The {component} in {folder} has only pickled weights ({pickled[0]}), which are not opened; "
                "convert them to safetensors."
            )
        raise UsageError(f"The {component} in {folder} has no weights; safetensors files are needed there.")
    if asked in there or None in there:
        return asked if asked in there else None
    if len(there) > 1 or asked is not None:
        names = " and ".join(sorted(map(str, there)))
        raise UsageError(f"The {component} in {folder} has the variants {names}; choose one with --variant.")
    (only,) = there
    note = f"The {only} variant was loaded, the only one there."
    if note not in messages:
        messages.append(note)
    return only


def variants(folder: Path) -> set[str | None]:
    """The variants of the safetensors weights in a folder, as "fp16"; None stands for the plain ones."""
    known: set[str | None] = set()
    for file in folder.glob("*.safetensors"):
        base, _, variant = SHARD.sub("", file.name.removesuffix(".safetensors")).partition(".")
        if base in NAMES:
            known.add(variant or None)
    return known


def some(keys: Iterable[str], count: int = 3) -> str:
    """The first few keys, and dots for the others."""
    keys = list(keys)
    return ", ".join(keys[:count]) + (", ..." if len(keys) > count else "")


def first_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]


def read_config(file: Path) -> Json:
    """A configuration of diffusers, empty where there is none; raises `UsageError` for a file that is no JSON."""
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(f"{file} is not readable JSON: {first_line(e)}") from e
    return config if isinstance(config, dict) else {}
