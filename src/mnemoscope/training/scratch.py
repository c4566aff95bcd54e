"""A U-Net with random weights in the place of a pipeline's own."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.training.options import TrainOptions

SHARED = ("in_channels", "out_channels", "cross_attention_dim")


def new_unet(pipe: DiffusionPipeline, options: TrainOptions) -> Any:
    """A U-Net of the pipeline's own configuration, or of a JSON file's, with weights that depend on the seed alone.

    Raises `UsageError` for a configuration that does not fit the rest of the pipeline.
    """
    if not hasattr(pipe, "unet"):
        raise UsageError(f"{type(pipe).__name__} has no U-Net to train from scratch.")
    config, kind = dict(pipe.unet.config), type(pipe.unet)
    asked = config if options.unet_config is None else _asked(Path(options.unet_config), config, kind.__name__)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            return kind.from_config(asked).to(pipe.unet.device)
        except (ValueError, TypeError, RuntimeError) as e:
            reason = str(e).partition("\n")[0]
            raise UsageError(f"{options.unet_config} is no configuration of a {kind.__name__}: {reason}") from e


def _asked(file: Path, config: Json, kind: str) -> Json:
    asked = read_json(file)
    if (named := asked.get("_class_name", kind)) != kind:
        raise UsageError(f"{file} configures a {named}, and this model needs a {kind}.")
    for key in SHARED:
        if key in config and asked.setdefault(key, config[key]) != config[key]:
            raise UsageError(f"{file} does not fit this model: its {key} is {asked[key]}, and {config[key]} is needed.")
    return asked
