"""The second bundled model, of SD3's architecture: its own networks, and the parts that it shares with the first."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from transformers import CLIPTokenizer

from mnemoscope.demo import HERE, MODEL

NAME = "demo-flow"
FOLDER = HERE / "model-flow"
TOKENS = 32  # positions of each text encoder


def parts(dtype: torch.dtype) -> dict[str, Any]:
    """What is not in its folder: autoencoder and tokenizers of the first bundled model, and no third text encoder."""
    tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer", model_max_length=TOKENS)
    vae = AutoencoderKL.from_pretrained(MODEL / "vae", dtype=dtype, use_safetensors=True, shift_factor=0.0)
    return {"vae": vae, "tokenizer": tokenizer, "tokenizer_2": tokenizer, "text_encoder_3": None, "tokenizer_3": None}


def pipeline(dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """The whole `StableDiffusion3Pipeline`."""
    return DiffusionPipeline.from_pretrained(FOLDER, dtype=dtype, use_safetensors=True, **parts(dtype))


def save(folder: Path) -> None:
    """Write a whole folder in half precision, which plain diffusers loads as it loads any SD3 without its T5.

    That is with `DiffusionPipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)`.
    """
    pipeline(torch.float16).save_pretrained(folder)
