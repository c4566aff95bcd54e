"""Pipelines from the bundled model, a folder, a single-file checkpoint or a hub id; nothing is unpickled."""

import json
import os
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from mnemoscope.errors import UsageError

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BUNDLED = {"demo": Path(__file__).parents[1] / "demo" / "model"}  # folders of the package by their short names


def load(
    model: str,
    *,
    unet: str | Path | None = None,
    lora: str | Path | None = None,
    scheduler: str = "own",
    device: str = "auto",
    dtype: str = "auto",
) -> DiffusionPipeline:
    """A diffusers pipeline, without its safety checker, on a device and in one dtype.

    "auto" is the first accelerator, in float16, or else the CPU, in float32. `unet` replaces the U-Net by the one in a
    folder, `lora` loads LoRA weights, `scheduler` replaces the solver. Raises `UsageError` for what cannot be loaded.
    """
    place = pick_device(device)
    number = pick_dtype(dtype, place)
    pipe = _pipeline(model, number)
    if unet is not None:
        pipe.register_modules(unet=_unet(Path(unet), pipe, number))
    if lora is not None:
        _load_lora(pipe, Path(lora))
    if scheduler != "own":
        pipe.register_modules(scheduler=_scheduler(scheduler, pipe.scheduler.config))
    _check_complete(pipe)
    return pipe.to(place)


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the first accelerator or else the CPU."""
    if device == "auto":
        kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((k for k, there in kinds.items() if there), "cpu"))
    try:
        there = torch.zeros(1, device=device)
        there.cpu()  # the device "meta" holds no numbers
        return there.device
    except (RuntimeError, AssertionError) as e:
        raise UsageError(f"Device '{device}' is not to be had here; use auto or cpu.") from e


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; "auto" is float16 on an accelerator and float32 on the CPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if dtype not in DTYPES:
        raise UsageError(f"'{dtype}' is not a dtype to run in; use auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def settle_threads() -> int:
    """Give torch the cores that nothing else uses now: on a busy machine too many threads wait for one another.

    `OMP_NUM_THREADS` decides where it is set.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        idle = (os.cpu_count() or 1) - os.getloadavg()[0]
        torch.set_num_threads(max(1, min(torch.get_num_threads(), round(idle))))
    return torch.get_num_threads()


def quiet() -> None:
    """Keep the libraries' advice and progress bars off the terminal; errors still show."""
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _pipeline(model: str, dtype: torch.dtype) -> DiffusionPipeline:
    path = BUNDLED.get(model, Path(model))
    model = str(path) if model in BUNDLED else model
    if path.is_file():
        return _single_file(path, dtype)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise UsageError(f"{path} holds no model_index.json; give the folder of a saved diffusers pipeline.")
        return _from_folder_or_hub(model, dtype, _no_checker(path))
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise UsageError(f"There is no model at '{model}'; give demo, a folder, a .safetensors file or a hub id.")
    return _from_folder_or_hub(model, dtype, {})


def _no_checker(folder: Path) -> dict[str, Any]:
    """The audit must see what the model draws: the safety checker is not loaded where a pipeline has one."""
    try:
        parts = json.loads((folder / "model_index.json").read_text())
    except (OSError, ValueError) as e:
        raise UsageError(f"{folder / 'model_index.json'} is not readable JSON: {_first_line(e)}") from e
    if not isinstance(parts, dict):
        raise UsageError(f"{folder / 'model_index.json'} is not the index of a diffusers pipeline.")
    for part, kind in parts.items():  # a tokenizer would load from no files without a word
        named = isinstance(kind, list) and len(kind) == 2 and all(isinstance(k, str) for k in kind)
        if named and part[0] != "_" and part != "safety_checker" and not any((folder / part).glob("*")):
            raise UsageError(f"{folder} lacks its {part}, which its model_index.json names.")
    return {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in parts else {}


def _from_folder_or_hub(model: str, dtype: torch.dtype, extra: dict[str, Any]) -> DiffusionPipeline:
    try:
        pipe = DiffusionPipeline.from_pretrained(model, dtype=dtype, use_safetensors=True, **extra)
    except Exception as e:  # diffusers and the hub client raise many kinds for a model that is missing or broken
        raise UsageError(f"'{model}' could not be loaded as a diffusers pipeline: {_first_line(e)}") from e
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.register_modules(safety_checker=None)
        pipe.register_to_config(requires_safety_checker=False)
    return pipe


def _single_file(path: Path, dtype: torch.dtype) -> DiffusionPipeline:
    if path.suffix != ".safetensors":
        raise UsageError(
            f"{path} is not a .safetensors file, and pickled checkpoints are not opened; convert it first."
        )
    config = path.with_suffix("")  # a pipeline folder of the same name spares the look-up on the hub
    keys = _keys(path)
    large = any(k.startswith("conditioner.embedders.1") for k in keys)
    name = "StableDiffusionXLPipeline" if large else "StableDiffusionPipeline"
    local = {"config": str(config), "local_files_only": True} if config.is_dir() else {}
    try:
        return getattr(diffusers, name).from_single_file(str(path), dtype=dtype, **local)
    except Exception as e:
        hint = f" (without a network, put its configuration in the folder {config})" if not local else ""
        raise UsageError(f"{path} could not be loaded as a single-file checkpoint{hint}: {_first_line(e)}") from e


def _keys(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as f:
            return list(f.keys())
    except SafetensorError as e:
        raise UsageError(f"{path} is not a readable safetensors file: {_first_line(e)}") from e


def _unet(path: Path, pipe: DiffusionPipeline, dtype: torch.dtype) -> Any:
    own = getattr(pipe, "unet", None)
    if own is None:
        raise UsageError(f"{type(pipe).__name__} has no U-Net; leave out --unet.")
    folder = path / "unet" if (path / "unet").is_dir() else path
    if not (folder / "config.json").is_file():
        raise UsageError(f"{path} holds no U-Net; --unet expects a folder with config.json and safetensors weights.")
    try:
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
        unet = getattr(diffusers, kind).from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except Exception as e:
        raise UsageError(f"{path} could not be loaded as a U-Net: {_first_line(e)}") from e
    given, expected = ({"class": type(u).__name__, **u.config} for u in (unet, own))
    for key in ("class", "in_channels", "out_channels", "cross_attention_dim"):
        if given.get(key) != expected.get(key):
            raise UsageError(
                f"{path} does not fit this model: its {key} is {given.get(key)}, and {expected.get(key)} is needed."
            )
    return unet


def _check_complete(pipe: DiffusionPipeline) -> None:
    for component, module in pipe.components.items():
        missing = [k for k, v in module.named_parameters() if v.is_meta] if isinstance(module, torch.nn.Module) else []
        if missing:
            raise UsageError(f"The model's {component} lacks {len(missing)} of its weights, {missing[0]} among them.")


def _load_lora(pipe: DiffusionPipeline, path: Path) -> None:
    file = path / "pytorch_lora_weights.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{path} holds no LoRA; --lora expects a .safetensors file or a folder with one.")
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} is not a .safetensors file, and pickled weights are not opened; convert it first.")
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"{type(pipe).__name__} takes no LoRA; leave out --lora.")
    try:
        import peft  # noqa: F401

        # by its name and not as a dictionary: the file's header holds the scale
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, use_safetensors=True, local_files_only=True)
    except ImportError as e:
        raise UsageError("LoRA weights need peft: pip install 'mnemoscope[lora]'.") from e
    except Exception as e:
        raise UsageError(f"{path} could not be loaded as a LoRA of this model: {_first_line(e)}") from e


def _scheduler(name: str, config: Any) -> Any:
    if name not in SCHEDULERS:
        raise UsageError(f"There is no scheduler '{name}'; use own, {', '.join(SCHEDULERS)}.")
    forced = {"clip_sample": False} if name in ("ddim", "ddpm") and "clip_sample" not in config else {}
    forced |= {"skip_prk_steps": True} if name == "pndm" and "skip_prk_steps" not in config else {}
    return getattr(diffusers, SCHEDULERS[name]).from_config(config, **forced)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]
