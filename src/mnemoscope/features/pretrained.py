"""Transformers models from a folder or the hub, whole and with a hash of their files; only tensors are unpickled."""

from pathlib import Path
from typing import Any

import torch

from mnemoscope.errors import UsageError
from mnemoscope.features.identity import weights_of

WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")  # other files hold the same in other formats
PICKLED = "pytorch_model.bin"  # of older saves; read by `weights_only=True`, where there are no safetensors
FILES = ["*.json", "*.txt", *WEIGHTS]


def folder_of(name: str, weights: str | Path) -> Path:
    """The folder with a model's files, fetched from the hub where `weights` is an id; raises `UsageError` without."""
    folder = Path(weights)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} holds no config.json; give the folder of a saved {name} model.")
        return folder
    if str(weights).count("/") != 1 or str(weights).startswith((".", "/", "~")):
        raise UsageError(f"There is no {name} model at '{weights}'; give its folder or its hub id.")
    from huggingface_hub import snapshot_download

    try:
        downloaded = Path(snapshot_download(str(weights), allow_patterns=FILES))
        if not any(downloaded.glob("*.safetensors")):
            downloaded = Path(snapshot_download(str(weights), allow_patterns=[*FILES, PICKLED]))
        return downloaded
    except Exception as e:  # the hub client raises many kinds, for no network as for no such model
        raise UsageError(
            f"'{weights}' is no folder and could not be fetched from the hub: {first_line(e)} "
            f"Download {name} where there is a network, and give its folder."
        ) from e


def load(name: str, kind: Any, folder: Path, types: tuple[str, ...], device: torch.device) -> tuple[Any, str]:
    """A frozen float32 model of one of these types, and the hash of its weights.

    Raises `UsageError` for another type, for files that cannot be read and for missing weights, which transformers
    would fill up at random.
    """
    from transformers import AutoConfig

    try:
        if (model_type := AutoConfig.from_pretrained(folder).model_type) not in types:
            raise ValueError(f"it holds a model of the type {model_type}")
        files = [f for pattern in WEIGHTS for f in folder.glob(pattern)]
        pickled = not files and (folder / PICKLED).is_file()
        how = {"use_safetensors": not pickled, "weights_only": True, "output_loading_info": True}
        model, info = kind.from_pretrained(folder, dtype=torch.float32, **how)
    except Exception as e:  # transformers raises many kinds for files that are missing or broken
        raise UsageError(f"{folder} could not be loaded as {name}: {first_line(e)}") from e
    if lacking := sorted(info["missing_keys"]):
        raise UsageError(f"{folder} lacks {len(lacking)} of {name}'s weights, {lacking[0]} among them; save it whole.")
    return model.to(device).eval().requires_grad_(False), weights_of([folder / PICKLED] if pickled else files)


def first_line(error: BaseException) -> str:
    """What an error says first, shortened."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
