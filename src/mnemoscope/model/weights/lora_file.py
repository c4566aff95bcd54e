"""A LoRA file: the updates of layers that it holds, and by what they are scaled."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.layer_names import COMPONENTS
from mnemoscope.model.weights.lora_update import Update
from mnemoscope.model.weights.marks import read_header
from mnemoscope.model.weights.paths import meant
from mnemoscope.model.weights.reading import first_line
from mnemoscope.run.reading import Json

FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
ADAPTER = "adapter_config.json"
SIZE_MARK = "mnemoscope.size"  # height x width in pixels that a LoRA was trained at
ENDINGS = [  # how a key ends, and the role that its tensor has in the update of the layer before it
    (re.compile(r"\.processor\.(?P<layer>to_[qkv]|to_out)_lora\.(?P<role>down|up)\.weight$"), ""),
    (re.compile(r"\.processor\.(?P<layer>(?:qkv|proj)_lora[12]?)\.(?P<role>down|up)\.weight$"), ""),
    (re.compile(r"\.lora_linear_layer\.(?P<role>down|up)\.weight$"), ""),
    (re.compile(r"\.lora\.(?P<role>down|up|mid)\.weight$"), ""),
    (re.compile(r"\.lora_(?P<role>A|B|down|up|mid)(\.(?!weight$)[\w-]+)?\.weight$"), ""),
    (re.compile(r"\.(?P<role>hada_[wt][12](?:_[ab])?|lokr_w[12](?:_[ab])?|lokr_t2|diff_b|diff|alpha)$"), ""),
    (re.compile(r"\.dora_scale$"), "dora_scale"),
    (re.compile(r"\.lora_magnitude_vector(\.[\w-]+)*$"), "magnitude"),
]
PROCESSORS = {  # layers of FLUX's blocks under the names that XLabs' processors give them
    "qkv_lora1": "img_attn.qkv",
    "proj_lora1": "img_attn.proj",
    "qkv_lora2": "txt_attn.qkv",
    "proj_lora2": "txt_attn.proj",
    "qkv_lora": "qkv",
    "proj_lora": "linear2",
}
ROLES = {"A": "down", "B": "up"}


@dataclass
class LoraFile:
    """What a file holds: updates of layers, keys that are none, and the settings that its header or folder gives."""

    file: Path
    component: str | None
    updates: list[Update]
    strange: list[str]
    settings: Mapping[str, Any]
    size: str | None

    @property
    def keys(self) -> int:
        return len(self.strange) + sum(len(u.keys) for u in self.updates)

    def scaling(self, update: Update, component: str, layer: str) -> float:
        """alpha / rank of an update (alpha / sqrt(rank) for rsLoRA): from the file's own alpha, or its settings."""
        rank = update.rank
        if rank is None:  # whole matrices are not scaled
            return 1.0
        if "alpha" in update.tensors:
            return float(update.tensors["alpha"]) / rank
        known = {k.removeprefix(f"{component}."): v for k, v in self.settings.items()}
        alpha = known.get("lora_alpha", known.get("alpha"))
        for pattern, value in (known.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?{pattern}", layer):
                alpha = value
        if alpha is None:
            return 1.0
        return float(alpha) / (rank**0.5 if known.get("use_rslora") else rank)


def lora_files(path: Path) -> list[LoraFile]:
    """The LoRA at a path: a file, a folder of one, or a folder with PEFT adapters of several components."""
    if path.is_file():
        return [read_lora(path)]
    named = [path / name for name in FILES]
    inside = next((file for file in [*named, *(path / "lora" / name for name in FILES)] if file.is_file()), None)
    if inside is not None:
        return [read_lora(inside)]
    parts = [(p / FILES[1], p.name) for p in sorted(path.glob("*/")) if (p / FILES[1]).is_file()]
    if parts:
        return [read_lora(file, _component(name)) for file, name in parts]
    alone = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(alone) == 1:
        return [read_lora(alone[0])]
    if len(alone) > 1:
        raise UsageError(f"{path} holds {len(alone)} files that may be a LoRA ({alone[0].name}, ...); name one.")
    if pickled := next(iter(sorted(p for p in path.glob("*.bin"))), None) if path.is_dir() else None:
        raise UsageError(f"{pickled} is not a .safetensors file, and pickled weights are not opened; convert it first.")
    near = meant(path) if not path.exists() else ""
    raise UsageError(f"{path} holds no LoRA; --lora expects a .safetensors file or a folder with one{near or '.'}")


def _component(folder: str) -> str | None:
    return folder if folder in COMPONENTS else None


def read_lora(file: Path, component: str | None = None) -> LoraFile:
    """Read a file; raises `UsageError` for one that is no LoRA, or of a kind that is not read."""
    from safetensors.torch import load_file

    if file.suffix != ".safetensors":
        raise UsageError(f"{file} is not a .safetensors file, and pickled weights are not opened; convert it first.")
    keys, header = read_header(file)
    if any(key.startswith(("model.diffusion_model.", "first_stage_model.")) for key in keys):
        raise UsageError(f"{file} is a whole checkpoint and no LoRA; give it as MODEL.")
    tensors = load_file(file)
    return LoraFile(file, component, *_sorted(tensors), _settings(file, header), header.get(SIZE_MARK))


def renamed(lora: LoraFile, pipe: Any) -> LoraFile:
    """The file under the names that a pipeline's own loader gives its layers, as FLUX's, whose projections it parts.

    Layers are translated one by one, as a loader passes over what it does not know; those stay as they are.
    """
    from safetensors.torch import load_file

    tensors, updates = load_file(lora.file), list[Update]()
    for update in lora.updates:
        found = _translated(pipe, {key: tensors[key] for key in update.keys})
        made, strange = _sorted(found)
        updates += made if made and not strange else [update]
    return LoraFile(lora.file, lora.component, updates, lora.strange, {}, lora.size)


def _translated(pipe: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a pipeline's loader makes of some keys; nothing where it does not know them."""
    try:
        found = type(pipe).lora_state_dict(tensors)
    except Exception:  # for names that it does not know a loader raises nearly anything
        return {}
    return found if isinstance(found, dict) else {}  # a pair, of Stable Diffusion, whose names are all known here


def _sorted(tensors: Mapping[str, Tensor]) -> tuple[list[Update], list[str]]:
    """The updates that tensors make up, and keys that are of none."""
    updates: dict[str, Update] = {}
    strange = []
    for key, tensor in tensors.items():
        stem, role = _parsed(key)
        if role is None:
            strange.append(key)
            continue
        update = updates.setdefault(stem, Update(stem))
        update.tensors[role] = tensor
        update.keys.append(key)
    return list(updates.values()), strange


def _parsed(key: str) -> tuple[str, str | None]:
    """The layer that a key is of, and its tensor's role; no role for a key that is of no LoRA."""
    for ending, fixed in ENDINGS:
        if matched := ending.search(key):
            groups = matched.groupdict()
            layer = f".{PROCESSORS.get(groups['layer'], groups['layer'])}" if groups.get("layer") else ""
            role = fixed or groups["role"]
            return key[: matched.start()] + layer, ROLES.get(role, role)
    return key, None


def _settings(file: Path, header: Mapping[str, Any]) -> Json:
    """What scales the updates: the header that diffusers writes, or the configuration beside a PEFT adapter."""
    text = header.get("lora_adapter_metadata")
    if text is None and (file.parent / ADAPTER).is_file():
        text = (file.parent / ADAPTER).read_text()
    if text is None:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"The settings of {file} are not readable JSON: {first_line(e)}") from e
    kind = settings.get("peft_type", "LORA") if isinstance(settings, dict) else None
    if kind not in ("LORA", "LOHA", "LOKR"):
        raise UsageError(f"{file} is a {kind} adapter; LoRA, LoHa and LoKr are read.")
    return settings
