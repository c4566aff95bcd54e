"""Pipelines from the bundled model, a folder, a single-file checkpoint or a hub id; nothing is unpickled."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mnemoscope.errors import UsageError
from mnemoscope.model import bundled
from mnemoscope.model.bundled import Parts
from mnemoscope.model.device import pick_device as pick_device
from mnemoscope.model.device import settle_threads as settle_threads
from mnemoscope.model.memory import save_memory
from mnemoscope.model.rows import ROWS
from mnemoscope.model.solvers import swapped
from mnemoscope.model.weights.embeddings import add_embedding
from mnemoscope.model.weights.folders import read_folder, read_hub
from mnemoscope.model.weights.heard import heard
from mnemoscope.model.weights.lora import MergedLora, merge_lora, parse_lora
from mnemoscope.model.weights.parts import put_text_encoders, put_unet
from mnemoscope.model.weights.paths import on_the_hub, refuse_absent
from mnemoscope.model.weights.single_file import read_single_file
from mnemoscope.model.weights.size import make_own, own_size, parse_size

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


Paths = Sequence[str | Path] | str | Path | None


@dataclass(frozen=True)
class Opened:
    """A pipeline, what was put into it beside the model's own weights, and what the libraries warned about."""

    pipe: DiffusionPipeline
    size: tuple[int, int] | None = None  # that was asked for, of a model that cannot hold it in its configuration
    parts: Parts = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def load(model: str, **how: Any) -> DiffusionPipeline:
    """The pipeline that `open_model` opens."""
    return open_model(model, **how).pipe


def open_model(
    model: str,
    *,
    unet: str | Path | None = None,
    text_encoder: str | Path | None = None,
    lora: Paths = None,
    embedding: Paths = None,
    variant: str | None = None,
    size: str | tuple[int, int] | None = None,
    scheduler: str = "own",
    device: str = "auto",
    dtype: str = "auto",
    low_memory: bool = False,
) -> Opened:
    """A diffusers pipeline, without its safety checker, on a device and in one dtype, all its weights from files.

    "auto" is the first accelerator, in float16 (bfloat16 for families known by a row), or else the CPU, in float32.
    `unet` replaces the U-Net by the one in a folder, with the text encoder that a training's checkpoint has beside it;
    `text_encoder` replaces that; each `lora`, "FILE" or "FILE:scale", is merged; each `embedding` adds tokens;
    `variant` names the files to read, as "fp16"; `size` is height x width in pixels; `scheduler` replaces the solver;
    `low_memory` is of `mnemoscope.model.memory`. Raises `UsageError` for what cannot be loaded whole.
    """
    place = pick_device(device)
    number = pick_dtype(dtype, place, class_named(model) in ROWS)
    asked = parse_size(size) if isinstance(size, str) else size
    messages: list[str] = []
    with heard(messages):
        pipe, marked = _pipeline(model, number, variant, asked, messages)
        parts = _put_networks(pipe, unet, text_encoder, number, variant, messages)
        added = [add_embedding(pipe, Path(file)) for file in _listed(embedding)]
        merged = [done for each in _listed(lora) for done in merge_lora(pipe, *parse_lora(each))]
        if scheduler != "own":
            pipe.register_modules(scheduler=swapped(scheduler, pipe.scheduler))
        parts |= {name: done for name, done in (("embeddings", added), ("loras", merged)) if done}
        drawn = _drawn_at(pipe, asked, _trained_at(merged) or marked, messages)
    if low_memory:
        return Opened(pipe, drawn, parts, (save_memory(pipe, place), *messages))
    return Opened(pipe.to(place), drawn, parts, tuple(messages))


def _listed(value: Paths) -> list[str | Path]:
    if value is None:
        return []
    return [value] if isinstance(value, str | Path) else list(value)


def pick_dtype(dtype: str, device: torch.device, by_row: bool = False) -> torch.dtype:
    """The dtype of that name; "auto" is float32 on the CPU and float16 on an accelerator, bfloat16 for a row's family.

    The numbers inside large transformers overflow in float16.
    """
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if by_row else torch.float16
    if dtype not in DTYPES:
        raise UsageError(f"'{dtype}' is not a dtype to run in; use auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def quiet() -> None:
    """Keep the libraries' advice and progress bars off the terminal; errors still show."""
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _pipeline(
    model: str, dtype: torch.dtype, variant: str | None, size: tuple[int, int] | None, messages: list[str]
) -> tuple[DiffusionPipeline, tuple[int, int] | None]:
    """The pipeline of MODEL, and the size that its file says, if it does."""
    if model in bundled.FOLDERS:
        return read_folder(bundled.FOLDERS[model], dtype, variant, messages, model, bundled.parts(model, dtype)), None
    path = Path(model)
    if path.is_file():
        return read_single_file(path, dtype, size, messages)
    if path.is_dir():
        return read_folder(path, dtype, variant, messages), None
    if not on_the_hub(model):
        refuse_absent(model)
    return read_hub(model, dtype, variant, messages), None


def class_named(model: str) -> str | None:
    """The class that the index of MODEL names, where there is one to be had."""
    from huggingface_hub import hf_hub_download

    file = Path(bundled.FOLDERS.get(model, model)) / "model_index.json"
    try:
        if not file.is_file() and on_the_hub(model):
            file = Path(hf_hub_download(model, "model_index.json"))
        name = json.loads(file.read_text()).get("_class_name")
        return name if isinstance(name, str) else None
    except Exception:  # whatever is wrong with it is said where it is loaded
        return None


def _put_networks(
    pipe: DiffusionPipeline,
    unet: str | Path | None,
    text_encoder: str | Path | None,
    dtype: torch.dtype,
    variant: str | None,
    messages: list[str],
) -> Parts:
    """Put a U-Net and text encoders into the pipeline; where each was read from."""
    parts: Parts = {}
    encoders: dict[str, Path] = {}
    if unet is not None:
        folder = put_unet(pipe, Path(unet), dtype, variant, messages)
        parts["unet"] = str(folder)
        if folder.name != Path(unet).name and text_encoder is None:  # a checkpoint, and not the U-Net alone
            encoders = put_text_encoders(pipe, Path(unet), dtype, messages, required=False)
            messages += [f"The {name} of {unet} was loaded with its U-Net." for name in encoders]
    if text_encoder is not None:
        encoders = put_text_encoders(pipe, Path(text_encoder), dtype, messages, required=True)
    return parts | {name: str(folder) for name, folder in encoders.items()}


def _drawn_at(
    pipe: DiffusionPipeline, asked: tuple[int, int] | None, marked: tuple[int, int] | None, messages: list[str]
) -> tuple[int, int] | None:
    """Make a size the pipeline's own where it has a U-Net; the size for a pipeline that has none."""
    size = asked or marked
    if size is None:
        return None
    is_own = size == own_size(pipe)
    if asked is None and not is_own:
        messages.append(f"Images are drawn at {size[0]}x{size[1]} pixels (height x width), as the file says.")
    if not hasattr(pipe, "unet"):
        return size  # some draw at another size than their transformer's, as AuraFlow does
    if not is_own:
        make_own(pipe, size)
    return None


def _trained_at(merged: Sequence[MergedLora]) -> tuple[int, int] | None:
    """The size that LoRAs were trained at, where they say so; raises `UsageError` where they differ."""
    sizes = sorted({str(done["size"]) for done in merged if "size" in done})
    if len(sizes) > 1:
        raise UsageError(f"The LoRAs were trained at {' and '.join(sizes)}; choose by --size.")
    return parse_size(sizes[0]) if sizes else None
