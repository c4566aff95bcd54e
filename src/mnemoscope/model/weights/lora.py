"""LoRA weights merged into a pipeline's networks: all of a file, or none of it."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.layer_names import Layers
from mnemoscope.model.weights.lora_file import LoraFile, lora_files, renamed
from mnemoscope.model.weights.lora_update import MAGNITUDES, Update
from mnemoscope.model.weights.reading import some


def parse_lora(text: str | Path) -> tuple[Path, float]:
    """Path and scale of "FILE" or "FILE:0.7"; raises `UsageError` for a scale that is no number, or 0."""
    whole = Path(text)
    name, colon, number = str(text).rpartition(":")
    if whole.exists() or not colon:
        return whole, 1.0
    try:
        scale = float(number)
    except ValueError:
        return whole, 1.0
    if not math.isfinite(scale) or scale == 0:
        raise UsageError(f"The scale of --lora {text} is {number}; give a number other than 0, or leave it out.")
    return Path(name), scale


@dataclass(frozen=True)
class _Change:
    """A layer and what is added to its parameters."""

    name: str
    parameter: nn.Parameter
    delta: Tensor


class MergedLora(TypedDict):
    """A file of a LoRA that was merged: how strongly, how many layers it is of, and in how many a weight changed."""

    file: str
    sha256: str
    scale: float
    layers: int
    changed: int
    size: NotRequired[str]


def merge_lora(pipe: DiffusionPipeline, path: Path, scale: float) -> list[MergedLora]:
    """Add each update of a LoRA, times its scale, to the weights of its layer; what was done, as a run records it.

    W + scale alpha / rank B A, of DoRA under its magnitudes, formed in float32 and rounded to the layer's dtype; an
    update of joined projections (to_qkv) is that of each of them. Raises `UsageError`, before anything
    is changed, unless every key of the file is of a layer of this model and fits it, and if no weight would change.
    """
    return [_merge(pipe, file, scale) for file in lora_files(path)]


@torch.no_grad()
def _merge(pipe: DiffusionPipeline, lora: LoraFile, scale: float) -> MergedLora:
    layers = Layers(pipe)
    known = (layers.find(u.stem, lora.component) or layers.apart(u.stem, lora.component) for u in lora.updates)
    if not lora.settings and not all(known):  # settings scale by names that would no longer hold
        lora = renamed(lora, pipe)
    changes = _changes(layers, lora, scale)
    moved = 0
    for change in changes:
        parameter = change.parameter
        merged = (parameter.float() + change.delta.to(parameter.device)).to(parameter.dtype)
        moved += not torch.equal(merged, parameter)
        parameter.copy_(merged)
    if not moved:
        raise UsageError(
            f"{lora.file} changes no weight: the updates of all its {len(lora.updates)} layers are zero, or too small "
            "for this dtype."
        )
    done: MergedLora = {
        "file": str(lora.file),
        "sha256": hashlib.sha256(lora.file.read_bytes()).hexdigest()[:16],
        "scale": scale,
        "layers": len(lora.updates),
        "changed": moved,
    }
    return {**done, "size": lora.size} if lora.size else done


def _changes(layers: Layers, lora: LoraFile, scale: float) -> list[_Change]:
    changes: list[_Change] = []
    for update, component, layer, module in placed(layers, lora):
        changes += _of(update, module, f"{component}.{layer}", scale, lora.scaling(update, component, layer))
    return changes


def placed(layers: Layers, lora: LoraFile) -> list[tuple[Update, str, str, Any]]:
    """Each update of a file with the component, the name and the module of the layer that it is of.

    Raises `UsageError` unless every key of the file is of a layer of this model and fits it.
    """
    unread = {u.kind for u in lora.updates} - {"lora", "loha", "lokr", "diff"}
    if unread:
        count = sum(u.kind in unread for u in lora.updates)
        raise UsageError(
            f"{lora.file} was not loaded: the updates of {count} of its {len(lora.updates)} layers are "
            f"{sorted(unread)[0]}, which is not read."
        )
    found: list[tuple[Update, str, str, Any]] = []
    lost = list(lora.strange)
    misfits: list[str] = []
    for update in unfused(layers, lora):
        places = layers.find(update.stem, lora.component)
        fitting = [(component, layer, module) for component, layer, module in places if _fits(update, module)]
        if len(fitting) == 1:
            found.append((update, *fitting[0]))
        elif fitting:
            raise UsageError(f"{lora.file} does not say which of the text encoders its {update.stem} is of.")
        elif places:
            misfits.append(update.stem)
        else:
            lost += update.keys
    _refuse(lora, lost, misfits)
    return found


def unfused(layers: Layers, lora: LoraFile) -> Iterator[Update]:
    """The updates of a file, those of projections that are one layer there and several in this model taken apart."""
    for update in lora.updates:
        apart = None if layers.find(update.stem, lora.component) else layers.apart(update.stem, lora.component)
        whole = update.multiplied(lora.scaling(update, "", update.stem)) if apart else update
        parts = whole.parts([size for _, size in apart]) if apart else None
        if apart and parts:
            yield from (replace(part, stem=stem) for part, (stem, _) in zip(parts, apart, strict=True))
        else:
            yield update


def _refuse(lora: LoraFile, lost: Sequence[str], misfits: Sequence[str]) -> None:
    if not lora.keys:
        raise UsageError(f"{lora.file} holds no weights.")
    if lost:
        raise UsageError(
            f"{lora.file} was not loaded: {len(lost)} of its {lora.keys} keys belong to no layer of this model, "
            f"{some(lost)}."
        )
    if misfits:
        raise UsageError(
            f"{lora.file} was not loaded: the updates of {len(misfits)} of its {len(lora.updates)} layers have another "
            f"shape than this model's, {some(misfits)}."
        )


def _fits(update: Update, module: Any) -> bool:
    """Whether the shape of an update is that of the layer's weight, up to the layout of 1x1 convolutions."""
    weight, bias = module.weight, getattr(module, "bias", None)
    if update.kind == "diff":
        shift = update.tensors.get("diff_b")
        is_biased = shift is None or (bias is not None and bias.shape == shift.shape)
        return is_biased and ("diff" not in update.tensors or update.tensors["diff"].numel() == weight.numel())
    try:
        delta = update.delta(1.0)
    except (RuntimeError, IndexError):  # factors that do not fit one another
        return False
    if weight.dim() < 2 or len(delta) != len(weight) or delta.numel() != weight.numel():
        return False
    magnitudes = [update.tensors[each] for each in MAGNITUDES if each in update.tensors]
    return all(each.numel() in weight.shape[:2] for each in magnitudes)


def _of(update: Update, module: Any, name: str, scale: float, scaling: float) -> list[_Change]:
    delta = scale * update.delta(scaling)
    changes = []
    if update.kind != "diff" or "diff" in update.tensors:
        changes.append(_Change(name, module.weight, update.added(module.weight, delta)))
    if "diff_b" in update.tensors:
        changes.append(_Change(f"{name} bias", module.bias, scale * update.tensors["diff_b"].float()))
    for change in changes:
        if not change.delta.isfinite().all():
            raise UsageError(f"The update of {change.name} holds numbers that are not finite; the LoRA is damaged.")
    return changes
