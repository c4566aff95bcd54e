"""Pipelines of every family with tiny random weights: the same weights at every call, no network, built in a moment."""

import json
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

torch.set_num_threads(1)

WIDTH, CONTEXT, SIZE = 32, 16, 8
NOISES = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "ddim": partial(DDIMScheduler, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "ddpm": partial(DDPMScheduler, clip_sample=False, steps_offset=1),
    "dpm++": partial(DPMSolverMultistepScheduler, steps_offset=1),
    "euler": partial(EulerDiscreteScheduler, steps_offset=1),
    "pndm": partial(PNDMScheduler, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
}


def seeded(build: Callable, seed: int = 0) -> nn.Module:
    """A module with the weights that this seed draws; biases and scales are not left at their plain start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return module.eval()


def scheduler(name: str = "ddim", prediction_type: str = "epsilon", **options):
    return SCHEDULERS[name](**{**NOISES, "prediction_type": prediction_type, **options})


@lru_cache(maxsize=1)
def tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer with no merges: one token a character."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    words = [*letters, *(c + "</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT)


def text_encoder(kind: type = CLIPTextModel, seed: int = 1) -> nn.Module:
    end = len(tokenizer()) - 1
    config = CLIPTextConfig(
        vocab_size=end + 1,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
        initializer_factor=5.0,  # so that prompts differ by far more than rounding
    )
    return seeded(lambda: kind(config), seed)


def unet(seed: int = 2, **options) -> UNet2DConditionModel:
    shape = {
        "sample_size": SIZE,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return seeded(lambda: UNet2DConditionModel(**shape | options), seed)


def unet_of_stable_diffusion_1() -> UNet2DConditionModel:
    """The blocks of Stable Diffusion 1, four channels wide."""
    return unet(
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def vae(seed: int = 3, **options) -> AutoencoderKL:
    shape = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 2 * SIZE,
    }
    return seeded(lambda: AutoencoderKL(**shape | options), seed)


def quiet(pipe: DiffusionPipeline) -> DiffusionPipeline:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stable_diffusion(
    prediction_type: str = "epsilon", scheduler: str = "ddim", network: nn.Module | None = None
) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=network or unet(),
        scheduler=_scheduler(scheduler, prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return quiet(pipe)


def distilled(scheduler: str = "ddim") -> StableDiffusionPipeline:
    """Stable Diffusion whose network takes the guidance scale as an input."""
    return stable_diffusion(scheduler=scheduler, network=unet(time_cond_proj_dim=8))


def stable_diffusion_xl(scheduler: str = "ddim", zeros: bool = True, **vae_options) -> StableDiffusionXLPipeline:
    """SDXL; `zeros` says whether no prompt means zeros or the embedding of the empty text."""
    network = unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        use_linear_projection=True,
        transformer_layers_per_block=2,
    )
    pipe = StableDiffusionXLPipeline(
        vae=vae(**vae_options),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, seed=4),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=network,
        scheduler=_scheduler(scheduler),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    return quiet(pipe)


def unconditional(scheduler: str = "ddim") -> DDIMPipeline | DDPMPipeline:
    """A U-Net over pixels: a DDPM pipeline for "ddpm", a DDIM pipeline otherwise."""
    network = seeded(
        lambda: UNet2DModel(
            sample_size=SIZE,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        ),
        seed=5,
    )
    kind = DDPMPipeline if scheduler == "ddpm" else DDIMPipeline
    pipe = kind(unet=network, scheduler=_scheduler(scheduler))
    pipe.scheduler = _scheduler(scheduler)  # the DDIM pipeline makes a DDIM scheduler of any other
    return quiet(pipe)


def class_conditional(scheduler: str = "ddim") -> DiTPipeline:
    """DiT of a thousand classes, of which three have a name, with a learnt variance."""
    network = seeded(
        lambda: DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=SIZE,
            patch_size=2,
            num_embeds_ada_norm=1000,
        ),
        seed=6,
    )
    names = {"0": "tench, Tinca tinca", "1": "goldfish"}
    return quiet(DiTPipeline(transformer=network, vae=vae(), scheduler=_scheduler(scheduler), id2label=names))


_scheduler = scheduler


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def latents(count: int, seed: int = 0, channels: int = 4) -> torch.Tensor:
    return torch.randn(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
