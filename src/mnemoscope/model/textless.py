"""Families without text: class labels, and nothing at all."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.families import Family


class Unconditional(Family):
    """A U-Net over pixels without any conditioning (DDPM and DDIM pipelines)."""

    name = "unconditional"
    has_tokens = False
    unguided = "it is an unconditional model"

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return set(pipe.components) == {"unet", "scheduler"} and "cross_attention_dim" not in pipe.unet.config

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        if any(prompts):
            raise UsageError(
                f"An unconditional model takes no prompt; '{next(p for p in prompts if p)[:60]}' was given: "
                "use empty prompts, one for each image."
            )
        return {}

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        return cond

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        return latents

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        raise UsageError("An unconditional model has no tokens to explain.")

    def ends(self, prompts: Sequence[str]) -> list[int]:
        raise UsageError("An unconditional model has no tokens.")


class ClassConditional(Family):
    """DiT: class labels, a null class, and a learnt variance beside the noise."""

    name = "class-conditional"
    has_tokens = False
    unguided = None
    null_first = False

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return "num_embeds_ada_norm" in getattr(getattr(pipe, "transformer", None), "config", {}) and not hasattr(
            pipe, "text_encoder"
        )

    @property
    def network(self) -> Any:
        return self.pipe.transformer

    def _label(self, prompt: str) -> int:
        classes = self.network.config.num_embeds_ada_norm
        label = int(prompt) if prompt.strip().isdecimal() else (self.pipe.labels or {}).get(prompt)
        if label is None or label >= classes:
            raise UsageError(
                f"'{prompt}' is not a class of this model: give a number from 0 to {classes - 1} or a name."
            )
        return label

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        labels = [self._label(p) for p in prompts]
        return {"class_labels": torch.tensor(labels, device=self.device)}

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        null = self.network.config.num_embeds_ada_norm
        return {"class_labels": torch.full((count,), null, device=self.device)}

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        return cond

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        times = t[None].to(x_t.device).expand(len(x_t))
        return self.network(x_t, timestep=times, **cond).sample[:, : self.network.config.in_channels]

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        return self.pipe.vae.decode(1 / self.pipe.vae.config.scaling_factor * latents).sample

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        raise UsageError("A class-conditional model has no tokens to explain.")

    def ends(self, prompts: Sequence[str]) -> list[int]:
        raise UsageError("A class-conditional model has no tokens.")
