"""Which family serves a pipeline, and what is missing where none does."""

import re
from collections.abc import Mapping
from typing import Any

from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError
from mnemoscope.model.families import XL, Family
from mnemoscope.model.recording import CALL
from mnemoscope.model.rows import ROWS
from mnemoscope.model.textless import ClassConditional, Unconditional
from mnemoscope.model.traced import Traced
from mnemoscope.model.weights.fitting import refuse_solver

FAMILIES: tuple[type[Family], ...] = (XL, Family, ClassConditional, Unconditional)
MORE = {  # what the name of a pipeline says it needs beside a text
    "Img2Img": "an image to begin from",
    "Inpaint": "an image and a mask",
    "Fill": "an image and a mask",
    "ControlNet": "an image that controls it",
    "Control": "an image that controls it",
    "Kontext": "an image to edit",
    "Edit": "an image to edit",
    "Pix2Pix": "an image to edit",
    "Redux": "an image to vary",
    "Upscale": "an image to enlarge",
    "Adapter": "an image that controls it",
    "ImageToVideo": "an image to begin from",
    "VideoToVideo": "a video to begin from",
    "Prior": "another pipeline behind it",
    "PAG": "a third branch, which perturbs the attention",
    "SAG": "a third branch, which blurs the attention",
}


def family_of(pipe: DiffusionPipeline, call: Mapping[str, Any] | None = None) -> Family:
    """The family that serves a pipeline; raises `UsageError` if none does, and says what would be needed."""
    _refuse_more_than_text(pipe)
    if Traced.matches(pipe):
        for name in call or {}:
            if name not in CALL:
                raise UsageError(f"call got '{name}', which no row describes; it takes {', '.join(CALL)}.")
        return Traced(pipe, call)
    if call:
        raise UsageError(f"call is for families that are known by a row, and {type(pipe).__name__} has none.")
    for family in FAMILIES:
        if family.matches(pipe):
            refuse_solver(pipe)
            return family(pipe)
    known = ", ".join([*(f.name for f in FAMILIES), *(row.name for row in ROWS.values())])
    raise UsageError(
        f"{type(pipe).__name__} is not supported: it would need a row in mnemoscope.model.rows that says what its "
        f"network is given, in which order and units; there are {known}."
    )


def _refuse_more_than_text(pipe: DiffusionPipeline) -> None:
    name = type(pipe).__name__
    for part, need in MORE.items():
        if re.search(f"{part}(?![a-z])", name):
            plain = re.sub(f"{part}.*", "", name) + "Pipeline"
            raise UsageError(f"{name} needs {need} beside a text, which no prompt file holds; give the {plain}.")
    two = getattr(pipe, "transformer_2", None) is not None
    if two or pipe.config.get("boundary_ratio") or pipe.config.get("expand_timesteps"):
        why = "changes its network or its times along the sampling, which no row describes"
        raise UsageError(f"{name} {why}; give a pipeline of one network.")
    for component in ("unet", "transformer"):
        network = getattr(pipe, component, None)
        adapted = getattr(network, "encoder_hid_proj", None)
        projected = adapted is not None and "image_projection_layers" in dict(adapted.named_children())
        if projected or getattr(network, "image_proj", None) is not None:  # the latter is Stable Diffusion 3's
            raise UsageError(
                f"{name} has an IP-adapter, which needs an image beside a text; unload_ip_adapter() first."
            )
