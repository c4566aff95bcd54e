"""Where the bundled models lie, and the parts that the second one, of SD3's architecture, takes from the first."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

Parts = dict[str, Any]  # of a pipeline, by the names that it has for them

DEMO = Path(__file__).parents[1] / "demo"
FOLDERS = {"demo": DEMO / "model", "demo-flow": DEMO / "model-flow"}
LENT = {"demo-flow": ("vae", "tokenizer", "tokenizer_2", "text_encoder_3", "tokenizer_3")}  # from the first to it
TOKENS = 32  # positions of each text encoder of demo-flow


def parts(name: str, dtype: torch.dtype) -> Parts:
    """What a bundled model's folder lacks: demo-flow's autoencoder and tokenizers are not stored a second time."""
    if name == "demo":
        return {}
    folder = FOLDERS["demo"]
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=TOKENS)
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=dtype, use_safetensors=True, shift_factor=0.0)
    return dict(zip(LENT[name], (vae, tokenizer, tokenizer, None, None), strict=True))
