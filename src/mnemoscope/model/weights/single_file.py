"""A whole checkpoint in one .safetensors file, in the names of the original Stable Diffusion code."""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.folders import component_class, read_index, without_checker
from mnemoscope.model.weights.marks import Marks, check_given, read_marks
from mnemoscope.model.weights.reading import first_line, some
from mnemoscope.run.reading import Json

READ = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")
KNOWN = (  # what such files hold beside the weights that are read: averages, tables of the schedule, marks
    *("model_ema.", "betas", "alphas_cumprod", "sqrt_", "log_one_minus", "posterior_", "v_pred", "ztsnr", "logvar"),
    *("denoiser.", "scale_factor", "model.betas", "model.alphas", "lvlb_weights"),
)


def read_single_file(
    file: Path, dtype: torch.dtype, size: tuple[int, int] | None, messages: list[str]
) -> tuple[DiffusionPipeline, tuple[int, int] | None]:
    """A pipeline from one file, set as its marks say, and the size in pixels that the marks name, if any.

    Raises `UsageError` for a file that lacks weights, or contradicts the configuration that lies beside it.
    """
    if file.suffix != ".safetensors":
        raise UsageError(
            f"{file} is not a .safetensors file, and pickled checkpoints are not opened; convert it first."
        )
    marks = read_marks(file)
    config = file.with_suffix("")  # a pipeline folder of the same name spares the look-up on the hub
    given = config if config.is_dir() else None
    if given is not None:
        check_given(file, given, marks, size)
    pipe = _pipeline(file, given, dtype, marks)
    for component, module in pipe.components.items():
        if isinstance(module, nn.Module) and (absent := [k for k, v in module.state_dict().items() if v.is_meta]):
            raise UsageError(f"{file} lacks {len(absent)} weights of the model's {component}, {some(absent)}.")
    if strange := [key for key in marks.keys if not key.startswith((*READ, *KNOWN))]:
        messages.append(f"{len(strange)} keys of the file are not used, {some(strange)}.")
    _mark(file, pipe, marks)
    return without_checker(pipe), marks.size


def _pipeline(file: Path, given: Path | None, dtype: torch.dtype, marks: Marks) -> DiffusionPipeline:
    name = "StableDiffusionXLPipeline" if marks.large else "StableDiffusionPipeline"
    local: Json = {"config": str(given), "local_files_only": True} if given else {}
    try:
        return getattr(diffusers, name).from_single_file(str(file), dtype=dtype, **local)
    except Exception as e:
        if given is not None and (lacking := lacks(file, given)):
            raise UsageError(f"{file} lacks {lacking}.") from e
        hint = "" if given else f" (without a network, put its configuration in the folder {file.with_suffix('')})"
        raise UsageError(f"{file} could not be loaded as a single-file checkpoint{hint}: {first_line(e)}") from e


def lacks(file: Path, config: Path) -> str:
    """What of the networks of a configuration is not in a file; an empty text if all of it is, by name."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened, torch.device("meta"):
        shapes = {key: torch.empty(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    for component, kind in read_index(config, str(config)).items():
        cls, name = component_class(kind), kind[1]
        if name not in SINGLE_FILE_LOADABLE_CLASSES:
            continue
        settings = cls.load_config(config / component)
        with torch.device("meta"):
            wanted = cls.from_config(settings).state_dict()
        convert: Any = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]
        takes = {"config": settings, "checkpoint": dict(shapes)}
        try:
            there = convert(**{k: v for k, v in takes.items() if k in inspect.signature(convert).parameters})
        except (KeyError, AttributeError, IndexError, TypeError):  # it stumbles over what is not there
            there = {}
        if absent := sorted(set(wanted) - set(there)):
            return f"{len(absent)} weights of the model's {component}, {some(absent)}"
    return ""


def _mark(file: Path, pipe: DiffusionPipeline, marks: Marks) -> None:
    """Set the solver as the file's marks say, where the configuration did not."""
    config = pipe.scheduler.config
    changed: Json = {}
    if marks.prediction_type not in (None, config.get("prediction_type")):
        changed["prediction_type"] = marks.prediction_type
    if marks.zero_snr and not config.get("rescale_betas_zero_snr"):
        if "rescale_betas_zero_snr" not in inspect.signature(type(pipe.scheduler).__init__).parameters:
            name = type(pipe.scheduler).__name__
            raise UsageError(
                f"{file} is marked ztsnr (zero terminal SNR), which {name} does not have; configure a DDIM solver."
            )
        changed |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if changed:
        pipe.register_modules(scheduler=type(pipe.scheduler).from_config(config, **changed))
