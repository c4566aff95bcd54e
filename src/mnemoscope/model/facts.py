"""The facts that a row states of a pipeline class, and the expressions that several rows share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mnemoscope.model import packing as pk
from mnemoscope.model.decoders import Decode, by_scale

Calls = Literal["null first", "cond first", "apart", "one"]  # both halves in one call, two calls, or no null in use
Time = Callable[[Tensor, torch.dtype, Any], Tensor]  # of solver times [B], the latents' dtype, the pipeline
Combine = Callable[["Row", Tensor, Tensor, float], Tensor]


def plain(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, eps_uncond + scale (eps_cond - eps_uncond)."""
    return uncond + scale * (cond - uncond)


def from_cond(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guidance counted from the conditional prediction, eps_cond + scale (eps_cond - eps_uncond)."""
    return cond + scale * (cond - uncond)


def renormed(row: "Row", cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guided, at the length of the conditional prediction along the last axis of what the network gives."""
    c, u = row.packing.pack(cond), row.packing.pack(uncond)
    guided = u + scale * (c - u)
    lengths = [torch.norm(v, dim=-1, keepdim=True) for v in (c, guided)]
    return row.packing.unpack(guided * (lengths[0] / lengths[1]), cond.shape)


def same(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """The solver's time itself."""
    return t


def typed(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """The solver's time in the latents' dtype."""
    return t.to(dtype)


def thousandth(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """A thousandth of the solver's time, divided in the latents' dtype."""
    return t.to(dtype) / 1000


def thousandth_typed(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """A thousandth of the solver's time, divided before it takes the latents' dtype."""
    return (t / 1000).to(dtype)


def left(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """What is left of the noise's way to the image, from 0 upwards."""
    return (1000 - t) / 1000


def left_of_all(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """What is left of the noise's way to the image, from 0 to 1."""
    return 1 - t / pipe.scheduler.config.num_train_timesteps


def scaled(t: Tensor, dtype: torch.dtype, pipe: Any) -> Tensor:
    """The solver's time, times the transformer's own factor."""
    return t * pipe.transformer.config.timestep_scale


def scale_factor(pipe: Any) -> int:
    """Pixels a latent pixel, along an edge."""
    return pipe.vae_scale_factor


def as_it_is(position: int, given: int, kept: int, pipe: Any) -> int:
    """Where it is among the tokenizer's ids."""
    return position


def after_template(position: int, given: int, kept: int, pipe: Any) -> int:
    """Without the ids of the prompt's template, which the pipeline cuts off."""
    return position - pipe.prompt_template_encode_start_idx


def last(position: int, given: int, kept: int, pipe: Any) -> int:
    """The first one, then the last that there is room for."""
    return position if position == 0 or given == kept else position - (given - kept)


def after_clip(position: int, given: int, kept: int, pipe: Any) -> int:
    """Behind the embeddings of the CLIP encoder, which come first."""
    return position + pipe.tokenizer.model_max_length


@dataclass(frozen=True)
class Encoded:
    """Where the tokens of one text encoder are: the embedding's name, and the position there of one of its input."""

    encoder: str = "text_encoder"
    tokenizer: str = "tokenizer"
    text: str = "encoder_hidden_states"
    place: Callable[[int, int, int, Any], int] = as_it_is  # of a position, ids given, embeddings kept, the pipeline


@dataclass(frozen=True)
class Row:
    """Facts of one pipeline class.

    `texts` are the embeddings that tokens become, `pooled` the vectors of whole prompts, `samples` what else of the
    network's arguments has a row for each sample; the rest is shared. `encoded` says where a text's tokens come from.
    """

    name: str
    calls: Calls
    time: Time = same
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
    combine: Combine = plain
    scale: str = "guidance_scale"  # the argument of the pipeline's call
    off: float = 1.0  # guidance up to which there is none
    distilled: Callable[[Any], bool] = lambda pipe: False  # guided by its weights: no second branch in sampling
    call: Mapping[str, Any] = field(default_factory=dict)  # what a dry run gives beside prompt, steps and size
    null_prompt: str | None = None  # passed as the negative prompt of the null branch, where the pipeline's own is none
    ragged: Literal["", "mask", "list", "groups"] = ""  # texts of own lengths, and how the network takes several
    decode: Decode = by_scale
    pixels: Callable[[Any], int] = scale_factor  # pixels a latent
