"""What is true of each text-to-image pipeline of diffusers beyond Stable Diffusion 1, 2 and XL: one row a class.

A row is a statement that a test checks: sampling by it equals the pipeline's own bit for bit, and with one fact of it
spoilt it does not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mnemoscope.model import packing as pk
from mnemoscope.model.decoders import Decode, by_batch_norm, by_scale, by_statistics, by_video_scale

Calls = Literal["null first", "cond first", "apart", "one"]  # both halves in one call, two calls, or no null in use
Time = Callable[[Tensor, torch.dtype, Any], Tensor]  # of solver times [B], the latents' dtype, the pipeline
Combine = Callable[["Row", Tensor, Tensor, float], Tensor]


def _plain(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return uncond + scale * (cond - uncond)


def _from_cond(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    return cond + scale * (cond - uncond)


def _renormed(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guided, at the length of the conditional prediction along the last axis of what the network gives."""
    c, u = row.packing.pack(cond), row.packing.pack(uncond)
    guided = u + scale * (c - u)
    lengths = [torch.norm(v, dim=-1, keepdim=True) for v in (c, guided)]
    return row.packing.unpack(guided * (lengths[0] / lengths[1]), cond.shape)


def _same(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return t


def _typed(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return t.to(dtype)


def _thousandth(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return t.to(dtype) / 1000


def _thousandth_typed(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return (t / 1000).to(dtype)


def _left(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """What is left of the noise's way to the image, from 0 upwards."""
    return (1000 - t) / 1000


def _left_of_all(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return 1 - t / pipe.scheduler.config.num_train_timesteps


def _scaled(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    return t * pipe.transformer.config.timestep_scale


def _scale_factor(pipe: Any) -> int:
    return pipe.vae_scale_factor


def _as_it_is(position: int, given: int, kept: int, pipe: Any) -> int:
    return position


def _after_template(position: int, given: int, kept: int, pipe: Any) -> int:
    return position - pipe.prompt_template_encode_start_idx


def _last(position: int, given: int, kept: int, pipe: Any) -> int:
    """The first one, then the last that there is room for."""
    return position if position == 0 or given == kept else position - (given - kept)


def _after_clip(position: int, given: int, kept: int, pipe: Any) -> int:
    return position + pipe.tokenizer.model_max_length


@dataclass(frozen=True)
class Encoded:
    """Where the tokens of one text encoder are: the embedding's name, and the position there of one of its input."""

    encoder: str = "text_encoder"
    tokenizer: str = "tokenizer"
    text: str = "encoder_hidden_states"
    place: Callable[[int, int, int, Any], int] = _as_it_is  # of a position, ids given, embeddings kept, the pipeline


@dataclass(frozen=True)
class Row:
    """Facts of one pipeline class.

    `texts` are the embeddings that tokens become, `pooled` the vectors of whole prompts, `samples` what else of the
    network's arguments has a row for each sample; the rest is shared. `encoded` says where a text's tokens come from.
    """

    name: str
    calls: Calls
    time: Time = _same
    network: str = "transformer"
    x: str = "hidden_states"
    t: str = "timestep"
    texts: tuple[str, ...] = ("encoder_hidden_states",)
    encoded: tuple[Encoded, ...] = (Encoded(),)
    pooled: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()  # lists with an entry for each sample
    packing: pk.Packing = pk.PLAIN
    float_state: bool = False  # the solver's state stays float32 in any dtype
    floats: bool = False  # predictions are combined in float32
    sign: int = 1
    combine: Combine = _plain
    scale: str = "guidance_scale"  # the argument of the pipeline's call
    off: float = 1.0  # guidance up to which there is none
    distilled: Callable[[Any], bool] = lambda pipe: False  # guided by its weights: no second branch in sampling
    call: Mapping[str, Any] = field(default_factory=dict)  # what a dry run gives beside prompt, steps and size
    null_prompt: str | None = None  # passed as the negative prompt of the null branch, where the pipeline's own is none
    ragged: Literal["", "mask", "list", "groups"] = ""  # texts of own lengths, and how the network takes several
    decode: Decode = by_scale
    pixels: Callable[[Any], int] = _scale_factor  # pixels a latent


_FLUX = Row(
    name="flux",
    calls="one",
    time=_thousandth,
    encoded=(Encoded("text_encoder_2", "tokenizer_2"),),
    pooled=("pooled_projections",),
    samples=("guidance",),
    packing=pk.SQUARES,
)
_FLUX_2 = Row(
    name="flux-2",
    calls="one",
    time=_thousandth,
    samples=("guidance", "txt_ids", "img_ids"),
    packing=pk.FLAT,
    decode=by_batch_norm,
    pixels=lambda pipe: 2 * pipe.vae_scale_factor,
)
_PIXART = Row(
    name="pixart",
    calls="null first",
    samples=("encoder_attention_mask", "resolution", "aspect_ratio"),
    call={"use_resolution_binning": False},
)

ROWS: dict[str, Row] = {
    "StableDiffusion3Pipeline": Row(
        name="stable-diffusion-3",
        calls="null first",
        pooled=("pooled_projections",),
        encoded=(Encoded(), Encoded("text_encoder_3", "tokenizer_3", place=_after_clip)),
    ),
    "FluxPipeline": _FLUX,
    "Flux2Pipeline": _FLUX_2,
    "Flux2KleinPipeline": replace(
        _FLUX_2, name="flux-2-klein", calls="apart", distilled=lambda pipe: bool(pipe.config.is_distilled)
    ),
    "QwenImagePipeline": Row(
        name="qwen-image",
        calls="apart",
        time=_thousandth,
        encoded=(Encoded(place=_after_template),),
        repeated=("img_shapes",),
        packing=pk.SHAPED,
        combine=_renormed,
        scale="true_cfg_scale",
        null_prompt=" ",
        ragged="mask",
        decode=by_statistics,
    ),
    "ZImagePipeline": Row(
        name="z-image",
        calls="cond first",
        time=_left,
        x="x",
        t="t",
        texts=("cap_feats",),
        encoded=(Encoded(text="cap_feats"),),
        packing=pk.FRAMES,
        float_state=True,
        floats=True,
        sign=-1,
        combine=_from_cond,
        off=0.0,
        ragged="list",
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": replace(_PIXART, name="pixart-sigma"),
    "SanaPipeline": Row(
        name="sana",
        calls="null first",
        time=_scaled,
        encoded=(Encoded(place=_last),),
        samples=("encoder_attention_mask",),
        float_state=True,
        floats=True,
        call={"use_resolution_binning": False},
    ),
    "Lumina2Pipeline": Row(
        name="lumina-2",
        calls="apart",
        time=_left_of_all,
        samples=("encoder_attention_mask",),
        sign=-1,
        combine=_renormed,
    ),
    "AuraFlowPipeline": Row(name="auraflow", calls="null first", time=_thousandth_typed),
    "ChromaPipeline": Row(
        name="chroma", calls="apart", time=_thousandth, samples=("attention_mask",), packing=pk.SQUARES
    ),
    "HunyuanDiTPipeline": Row(
        name="hunyuan-dit",
        calls="null first",
        time=_typed,
        texts=("encoder_hidden_states", "encoder_hidden_states_t5"),
        encoded=(Encoded(), Encoded("text_encoder_2", "tokenizer_2", "encoder_hidden_states_t5")),
        samples=("text_embedding_mask", "text_embedding_mask_t5", "image_meta_size", "style"),
        call={"use_resolution_binning": False},
    ),
    "CogView4Pipeline": Row(
        name="cogview-4",
        calls="apart",
        samples=("original_size", "target_size", "crop_coords"),
        float_state=True,
        ragged="groups",
    ),
    "KolorsPipeline": Row(
        name="kolors",
        calls="null first",
        network="unet",
        x="sample",
        pooled=("text_embeds",),
        samples=("time_ids",),
    ),
    "WanPipeline": Row(
        name="wan",
        calls="apart",
        packing=pk.FRAME,
        float_state=True,
        call={"num_frames": 1},
        decode=by_statistics,
        pixels=lambda pipe: pipe.vae_scale_factor_spatial,
    ),
    "LTXPipeline": Row(
        name="ltx",
        calls="null first",
        samples=("encoder_attention_mask",),
        packing=pk.VIDEO,
        float_state=True,
        floats=True,
        call={"num_frames": 1},
        decode=by_video_scale,
        pixels=lambda pipe: pipe.vae_spatial_compression_ratio,
    ),
}
