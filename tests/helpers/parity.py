"""The pipeline that the golden numbers belong to: SD 1's architecture, tiny, with weights any machine can rebuild.

Every parameter is drawn from numpy's legacy RandomState, whose stream is frozen, seeded by the CRC-32 of its name.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTH = 32


def fill(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
    for name, p in module.named_parameters():
        rng = np.random.RandomState(zlib.crc32(f"{prefix}.{name}".encode()) & 0x7FFFFFFF)
        z = rng.standard_normal(tuple(p.shape))
        if p.ndim >= 2:
            z = 0.5 * z if "embedding" in name else z / np.sqrt(np.prod(p.shape[1:]))
        else:
            z = 1 + 0.1 * z if name.endswith("weight") else 0.02 * z
        p.data.copy_(torch.from_numpy(z.astype(np.float32)))
    return module.eval()


def byte_tokenizer(folder: Path) -> CLIPTokenizer:
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in keep]
    letters = [chr(b) for b in keep] + [chr(256 + i) for i in range(len(rest))]
    vocabulary = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


def pipeline(folder: Path) -> StableDiffusionPipeline:
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=514,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            projection_dim=WIDTH,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64, 64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 16, 16),
        norm_num_groups=16,
        sample_size=512,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=fill(vae, "vae"),
        text_encoder=fill(text, "text_encoder"),
        tokenizer=byte_tokenizer(folder),
        unet=fill(unet, "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
