"""A pipeline from the folder that diffusers saved, component by component, or from the hub."""

import importlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model import bundled
from mnemoscope.model.bundled import Parts
from mnemoscope.model.weights.paths import meant
from mnemoscope.model.weights.reading import first_line, read_config, read_network, variants
from mnemoscope.model.weights.settings import check_settings, foresee
from mnemoscope.run.reading import Json


def read_folder(
    folder: Path,
    dtype: torch.dtype,
    variant: str | None,
    messages: list[str],
    name: str | None = None,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> DiffusionPipeline:
    """The pipeline of a folder, every weight from its files; `name` stands for the folder where it fails.

    `given` are components from elsewhere. What the index gives as absent, as of an SD3 without its T5, is left out. A
    pipeline that was saved as image-to-image or inpainting comes back as the one that draws from text.
    """
    name = name or str(folder)
    index = read_index(folder, name, given)
    parts: Parts = dict(given)
    for component, kind in index.items():
        cls = component_class(kind)
        check_settings(cls, folder / component)
        if component != "safety_checker" and isinstance(cls, type) and issubclass(cls, nn.Module):
            parts[component] = read_network(cls, folder / component, component, dtype, variant, messages)
    refuse_another_solver(folder, index)
    if variant is not None and not any(variant in variants(folder / c) for c in parts):
        raise UsageError(f"{name} has no weights of the variant '{variant}'; leave out --variant.")
    extra: Parts = dict.fromkeys(absent(folder))
    extra |= {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True, **(extra | parts))
    except Exception as e:  # diffusers raises many kinds for a folder that is broken or of a class that it lacks
        raise UsageError(f"'{name}' could not be loaded as a diffusers pipeline: {first_line(e)}") from e
    return from_text(without_checker(checked(pipe, parts, name)))


def read_hub(model: str, dtype: torch.dtype, variant: str | None, messages: list[str]) -> DiffusionPipeline:
    """A pipeline of the hub, from the cache where it is complete; its safety checker is not downloaded."""
    try:
        folder = DiffusionPipeline.download(model, use_safetensors=True, variant=variant, safety_checker=None)
    except Exception as e:  # the hub client raises many kinds for what is missing, gated or out of reach
        raise UsageError(f"'{model}' could not be loaded as a diffusers pipeline: {first_line(e)}{meant(model)}") from e
    return read_folder(Path(folder), dtype, variant, messages, model)


def absent(folder: Path) -> list[str]:
    """Components that `model_index.json` names and gives as absent; diffusers wants to be told again."""
    index = json.loads((folder / "model_index.json").read_text())
    return [part for part, kind in index.items() if kind == [None, None]]


def read_index(folder: Path, name: str, given: Collection[str] = ()) -> Json:
    """Components of `model_index.json` but those given; `UsageError` if it is none, or a component has no files."""
    file = folder / "model_index.json"
    if not file.is_file():
        raise UsageError(f"{name} holds no model_index.json; give the folder of a saved diffusers pipeline.")
    try:
        index = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(f"{file} is not readable JSON: {first_line(e)}") from e
    if not isinstance(index, dict):
        raise UsageError(f"{file} is not the index of a diffusers pipeline.")
    named = {
        part: kind for part, kind in index.items() if part[0:1] != "_" and part not in given and _is_component(kind)
    }
    for part in named:  # a tokenizer would load from no files without a word
        if part != "safety_checker" and not any((folder / part).glob("*")):
            raise UsageError(f"{name} lacks its {part}, which its model_index.json names.")
    return named


def foresee_solver(model: str, scheduler: str, steps: int | None) -> None:
    """Raise `UsageError` where the solver of a pipeline's folder cannot be made as asked for; nothing is loaded."""
    folder = bundled.FOLDERS.get(model, Path(model))
    if (folder / "model_index.json").is_file():
        index = read_index(folder, model, bundled.LENT.get(model, ()))
        refuse_another_solver(folder, index)
        foresee(folder, index, scheduler, steps)


def refuse_another_solver(folder: Path, index: Json) -> None:
    """Raise `UsageError` where a scheduler's configuration is of another class than the index names."""
    config = folder / "scheduler/scheduler_config.json"
    named, own = index.get("scheduler"), read_config(config).get("_class_name")
    if named and isinstance(own, str) and own != named[1]:
        raise UsageError(
            f"{folder / 'model_index.json'} names a {named[1]}, and {config} a {own}; correct the wrong one."
        )


def _is_component(kind: Any) -> bool:
    return isinstance(kind, list) and len(kind) == 2 and all(isinstance(k, str) for k in kind)


def component_class(kind: list[str]) -> Any:
    """The class that [library, name] of an index means, or None for one that is not diffusers' or transformers'."""
    library, name = kind
    if library in ("diffusers", "transformers"):
        return getattr(importlib.import_module(library), name, None)
    return getattr(getattr(diffusers.pipelines, library, None), name, None)


def checked(pipe: DiffusionPipeline, parts: Parts, name: str) -> DiffusionPipeline:
    """The pipeline, if each of its networks is one whose weights were checked."""
    for component, module in pipe.components.items():
        if isinstance(module, nn.Module) and component not in parts:
            raise UsageError(
                f"The {component} of {name} is a {type(module).__name__}, whose weights cannot be checked."
            )
    return pipe


def without_checker(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """The audit must see what the model draws."""
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.register_modules(safety_checker=None)
        pipe.register_to_config(requires_safety_checker=False)
    return pipe


def from_text(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """The pipeline that draws from text alone with the same parts, where it was saved as one that takes a picture."""
    name = type(pipe).__name__
    plain = re.sub("Img2Img|Inpaint", "", name)
    if name == plain:
        return pipe
    network, vae = getattr(pipe, "unet", None), getattr(pipe, "vae", None)
    if network is not None and vae is not None and network.config.in_channels != vae.config.latent_channels:
        needs = f"its network takes {network.config.in_channels} channels, {vae.config.latent_channels} of them latents"
        raise UsageError(f"A {name} draws from a picture: {needs}; give a model that draws from text alone.")
    kind = getattr(diffusers, plain, None)
    if kind is None:
        raise UsageError(f"A {name} draws from a picture, and diffusers has no {plain}; give a model for text alone.")
    return kind.from_pipe(pipe)
