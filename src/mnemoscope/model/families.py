"""What differs between model families: the conditioning, the network's other inputs, the null branch, decoding."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond


class Family:
    """Stable Diffusion 1 and 2: one text encoder, a U-Net with cross-attention, an autoencoder."""

    name = "stable-diffusion"
    has_tokens = True
    null_first = True  # the order in which the family's pipeline concatenates its two branches

    def __init__(self, pipe: DiffusionPipeline):
        self.pipe = pipe

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        config = getattr(getattr(pipe, "unet", None), "config", {})
        latent_channels = getattr(getattr(pipe, "vae", None), "config", {}).get("latent_channels")
        plain = "cross_attention_dim" in config and config["in_channels"] == latent_channels
        return plain and getattr(pipe, "text_encoder", None) is not None and not hasattr(pipe, "controlnet")

    @property
    def network(self) -> Any:
        return self.pipe.unet

    @property
    def unguided(self) -> str | None:
        """Why there is no unconditional prediction, or None where there is one."""
        return "its guidance is distilled into the network" if self._guidance_width else None

    @property
    def _guidance_width(self) -> int | None:
        return self.network.config.get("time_cond_proj_dim")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        size = self.network.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.network.config.in_channels, height, width

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        return {"encoder_hidden_states": self.pipe.encode_prompt(list(prompts), self.pipe.device, 1, False)[0]}

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        """The conditioning of the unconditional branch, as the family's pipeline makes it."""
        return {"encoder_hidden_states": self.pipe.encode_prompt([""] * count, self.pipe.device, 1, False)[0]}

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        """Adds the guidance scale to the conditioning of a guidance-distilled network."""
        if not self._guidance_width:
            return cond
        count = len(next(iter(cond.values())))
        scales = torch.tensor(guidance_scale - 1).repeat(count)
        embedding = self.pipe.get_guidance_scale_embedding(scales, embedding_dim=self._guidance_width)
        return {**cond, "timestep_cond": embedding.to(self.network.device, self.network.dtype)}

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.network(x_t, t, **cond, return_dict=False)[0]

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        vae = self.pipe.vae
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        """Token strings of each prompt at the positions of its embedding, the begin and end tokens included."""
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
        return [tokenizer.convert_ids_to_tokens(row) for row in ids.input_ids]

    def ends(self, prompts: Sequence[str]) -> list[int]:
        """Position of the end token of each prompt; what follows it is padding."""
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(list(prompts), max_length=tokenizer.model_max_length, truncation=True).input_ids
        return [len(row) - 1 for row in ids]


class XL(Family):
    """SDXL: two text encoders, a pooled embedding and size conditioning."""

    name = "stable-diffusion-xl"

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return Family.matches(pipe) and pipe.unet.config.get("addition_embed_type") == "text_time"

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        embeds, _, pooled, _ = self.pipe.encode_prompt(list(prompts), do_classifier_free_guidance=False)
        return self._sized(embeds, pooled, shape)

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        _, embeds, _, pooled = self.pipe.encode_prompt([""] * count, do_classifier_free_guidance=True)
        return self._sized(embeds, pooled, shape)

    def _sized(self, embeds: Tensor, pooled: Tensor, shape: Sequence[int]) -> Cond:
        size = tuple(side * self.pipe.vae_scale_factor for side in shape[-2:])
        width = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(size, (0, 0), size, embeds.dtype, text_encoder_projection_dim=width)
        ids = ids.to(embeds.device).repeat(len(embeds), 1)
        return {"encoder_hidden_states": embeds, "text_embeds": pooled, "time_ids": ids}

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        added = {k: v for k, v in cond.items() if k in ("text_embeds", "time_ids")}
        direct = {k: v for k, v in cond.items() if k not in added}
        return self.network(x_t, t, **direct, added_cond_kwargs=added, return_dict=False)[0]

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        vae, dtype = self.pipe.vae, self.pipe.vae.dtype
        if dtype == torch.float16 and vae.config.force_upcast:
            vae.to(torch.float32)
        if vae.config.get("latents_mean") is not None and vae.config.get("latents_std") is not None:
            mean, std = (torch.tensor(vae.config[k]).view(1, -1, 1, 1) for k in ("latents_mean", "latents_std"))
            latents = latents * std.to(latents) / vae.config.scaling_factor + mean.to(latents)
        else:
            latents = latents / vae.config.scaling_factor
        images = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        vae.to(dtype)
        return images


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
        return {"class_labels": torch.tensor(labels, device=self.network.device)}

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        null = self.network.config.num_embeds_ada_norm
        return {"class_labels": torch.full((count,), null, device=self.network.device)}

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


FAMILIES: tuple[type[Family], ...] = (XL, Family, ClassConditional, Unconditional)


def family_of(pipe: DiffusionPipeline) -> Family:
    """The family that serves a pipeline; raises `UsageError` if none does."""
    for family in FAMILIES:
        if family.matches(pipe):
            return family(pipe)
    names = ", ".join(f.name for f in FAMILIES)
    raise UsageError(f"{type(pipe).__name__} is not supported yet; supported families: {names}.")
