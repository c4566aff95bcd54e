"""Networks that take the place of a model's own: a fine-tuned U-Net, a fine-tuned text encoder."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError
from mnemoscope.model.weights.paths import meant
from mnemoscope.model.weights.reading import first_line, read_network

FITTING = ("class", "in_channels", "out_channels", "cross_attention_dim")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def folder_of(path: Path, part: str) -> Path | None:
    """Where a part lies at or in a path: a folder of its name, of an average of it, or the path itself; or None."""
    if path.is_file() and path.suffix == ".safetensors":
        path = path.parent
    averages = sorted(p for p in path.glob(f"{part}[_-]ema*") if p.is_dir()) if path.is_dir() else []
    places = [path / part, *averages[:1], path]
    return next((place for place in places if (place / "config.json").is_file()), None)


def put_unet(pipe: DiffusionPipeline, path: Path, dtype: torch.dtype, variant: str | None, messages: list[str]) -> Path:
    """Put the U-Net of a folder, or of a training's checkpoint, into the pipeline; the folder that it was read from."""
    old: Any = getattr(pipe, "unet", None)
    if old is None:
        raise UsageError(f"{type(pipe).__name__} has no U-Net; leave out --unet.")
    folder = folder_of(path, "unet")
    if folder is None:
        near = meant(path) if not path.exists() else ""
        raise UsageError(
            f"{path} holds no U-Net; --unet expects a folder with config.json and safetensors weights{near or '.'}"
        )
    kind = _class(folder, path)
    unet: Any = read_network(kind, folder, "unet", dtype, variant if _has(folder, variant) else None, messages)
    given, expected = ({"class": type(u).__name__, **u.config} for u in (unet, old))
    for key in FITTING:
        if given.get(key) != expected.get(key):
            raise UsageError(
                f"{path} does not fit this model: its {key} is {given.get(key)}, and {expected.get(key)} is needed."
            )
    pipe.register_modules(unet=unet)
    return folder


def _class(folder: Path, path: Path) -> Any:
    try:
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
        return getattr(diffusers, kind)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise UsageError(f"{path} could not be loaded as a U-Net: {first_line(e)}") from e


def _has(folder: Path, variant: str | None) -> bool:
    from mnemoscope.model.weights.reading import variants

    return variant in variants(folder)


def put_text_encoders(
    pipe: DiffusionPipeline, path: Path, dtype: torch.dtype, messages: list[str], *, required: bool
) -> dict[str, Path]:
    """Put the text encoders that a path holds into the pipeline: a folder of one, or of several by their names.

    What was put is returned by component. Raises `UsageError` for one that does not fit, and for none if `required`.
    """
    folders = {name: path / name for name in ENCODERS if (path / name / "config.json").is_file()}
    if not folders and required and (path / "config.json").is_file():
        folders = {"text_encoder": path}
    if not folders and required:
        near = meant(path) if not path.exists() else ""
        raise UsageError(
            f"{path} holds no text encoder; --text-encoder expects a folder with config.json and safetensors "
            f"weights{near or '.'}"
        )
    for name, folder in folders.items():
        encoder: Any = getattr(pipe, name, None)
        if encoder is None:
            raise UsageError(f"{path} holds a {name}, and {type(pipe).__name__} has none.")
        _check_encoder(encoder, folder)
        pipe.register_modules(**{name: read_network(type(encoder), folder, name, dtype, None, messages)})
    return folders


def _check_encoder(encoder: Any, folder: Path) -> None:
    try:
        config = json.loads((folder / "config.json").read_text())
        given = {key: config.get(key) for key in ("model_type", "hidden_size", "projection_dim")}
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        raise UsageError(f"{folder / 'config.json'} is no configuration of a text encoder: {first_line(e)}") from e
    for key, value in given.items():
        expected = getattr(encoder.config, key, None)
        if value is not None and expected is not None and value != expected:
            raise UsageError(f"{folder} does not fit this model: its {key} is {value}, and {expected} is needed.")
