"""What differs between model families: the conditioning, the network's other inputs, the null branch, decoding."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.encodings import Encodings
from mnemoscope.model.inversion import encoded_texts, spelt
from mnemoscope.model.sides import latent_sides
from mnemoscope.model.solvers import copied
from mnemoscope.model.spans import Token
from mnemoscope.model.weights.size import latent_size, pixels_per_latent


class Family(Encodings):
    """Stable Diffusion 1 and 2: one text encoder, a U-Net with cross-attention, an autoencoder."""

    name = "stable-diffusion"
    has_tokens = True
    has_ends = True  # whether the prompt's own tokens are those from position 1 to an end token
    null_first = True  # the order in which the family's pipeline concatenates its two branches
    joined = True  # whether it concatenates them at all: otherwise two calls, the conditional one first
    texts: tuple[str, ...] = ("encoder_hidden_states",)  # what the tokens of a prompt become
    pooled: tuple[str, ...] = ("text_embeds",)  # what the prompt as a whole becomes
    combines_plainly = True  # by uncond + scale (cond - uncond), which is the same in any unit
    evaluations = 0  # of the network beyond those of `predict`
    size: tuple[int, int] | None = None  # of the latents, height and width, where it is not the network's own

    def __init__(self, pipe: DiffusionPipeline) -> None:
        super().__init__()
        self.pipe = pipe
        self.negative_prompt: str | None = None  # what the null branch is conditioned by in place of no prompt

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        config = getattr(getattr(pipe, "unet", None), "config", {})
        latent_channels = getattr(getattr(pipe, "vae", None), "config", {}).get("latent_channels")
        plain = "cross_attention_dim" in config and config["in_channels"] == latent_channels
        return plain and getattr(pipe, "text_encoder", None) is not None and not hasattr(pipe, "controlnet")

    @property
    def network(self) -> Any:
        return self.pipe.unet

    def draw_at(self, size: tuple[int, int] | None) -> None:
        """Draw images of this height and width in pixels, or of the model's own; `UsageError` where that cannot be."""
        self.size = None if size is None else latent_size(self.pipe, size)

    @property
    def pixels(self) -> int:
        """Pixels of a side of the image for each of the latents."""
        return pixels_per_latent(self.pipe)

    @property
    def unguided(self) -> str | None:
        """Why there is no unconditional prediction, or None where there is one."""
        return "its guidance is distilled into the network" if self._guidance_width else None

    @property
    def distilled(self) -> str | None:
        """Why sampling uses no unconditional branch, though there may be one; None where it does."""
        return self.unguided

    @property
    def default_guidance(self) -> float:
        """The guidance scale of the family's pipeline where none is given; 1 where it knows none."""
        given = inspect.signature(self.pipe.__call__).parameters.get("guidance_scale")
        return 1.0 if given is None else float(given.default)

    def guidance(self, given: int | float | None) -> int | float:
        """The guidance scale to sample with: the one that was given, or the pipeline's own."""
        return self.default_guidance if given is None else given

    def negate(self, text: str | None) -> None:
        """Condition the unconditional branch by a text in place of no prompt; None for no prompt again.

        Raises `UsageError` where sampling has no such branch, so that the text would do nothing.
        """
        if text is not None and (self.distilled or not self.has_tokens):
            why = self.distilled or "it takes no text"
            raise UsageError(f"A negative prompt would do nothing for this model: {why}.")
        self.negative_prompt = text

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of the solver's state."""
        return self.network.dtype

    def guides(self, guidance_scale: float) -> bool:
        """Whether sampling at this scale uses the unconditional branch."""
        return guidance_scale > 1 and not self.unguided

    def combine(self, cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
        """The guided prediction, in the network's own units."""
        return uncond + guidance_scale * (cond - uncond)

    def solver(self, steps: int, shape: Sequence[int]) -> Any:
        """A solver of the pipeline's kind of our own, with the timesteps of so many steps at this size."""
        solver = copied(self.pipe.scheduler)
        solver.set_timesteps(steps, device=self.device)
        return solver

    @property
    def _guidance_width(self) -> int | None:
        return self.network.config.get("time_cond_proj_dim")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        size = self.size or self.network.config.sample_size
        if size is None:
            raise UsageError("The configuration of the U-Net has no sample_size; give --size HxW in pixels.")
        return self.network.config.in_channels, *latent_sides(size)

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        return {"encoder_hidden_states": self.pipe.encode_prompt(list(prompts), self.device, 1, False)[0]}

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        """The conditioning of the unconditional branch, as the family's pipeline makes it."""
        return self.encode([self.negative_prompt or ""] * count, shape)

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        """Adds the guidance scale to the conditioning of a guidance-distilled network."""
        if not self._guidance_width:
            return cond
        count = len(next(iter(cond.values())))
        scales = torch.tensor(guidance_scale - 1).repeat(count)
        embedding = self.pipe.get_guidance_scale_embedding(scales, embedding_dim=self._guidance_width)
        return {**cond, "timestep_cond": embedding.to(self.device, self.network.dtype)}

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.network(x_t, t, **cond, return_dict=False)[0]

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        vae = self.pipe.vae
        return vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        """Token strings of each prompt at the positions of its embedding, the begin and end tokens included."""
        tokenizer = self.pipe.tokenizer
        texts = encoded_texts(self.pipe, prompts)
        ids = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True)
        return [tokenizer.convert_ids_to_tokens(row) for row in ids.input_ids]

    def spans(self, prompts: Sequence[str]) -> list[list[Token]]:
        """Tokens of each prompt's own words; raises `UsageError` for a model without tokens."""
        ends, tokenizer = self.ends(prompts), self.pipe.tokenizer
        texts = spelt(self.pipe, prompts)
        encoded = tokenizer(
            [each.text for each in texts],
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_offsets_mapping=True,
        )
        rows = zip(texts, encoded.input_ids, encoded.offset_mapping, ends, strict=True)
        return [
            [Token(tokenizer.decode([i]).strip(), *text.span(*spans[k]), k) for k, i in enumerate(ids[:end]) if k]
            for text, ids, spans, end in rows
        ]

    def ends(self, prompts: Sequence[str]) -> list[int]:
        """Position of the end token of each prompt; what follows it is padding."""
        tokenizer = self.pipe.tokenizer
        texts = encoded_texts(self.pipe, prompts)
        ids = tokenizer(texts, max_length=tokenizer.model_max_length, truncation=True).input_ids
        return [len(row) - 1 for row in ids]


class XL(Family):
    """SDXL: two text encoders, a pooled embedding and size conditioning."""

    name = "stable-diffusion-xl"

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return Family.matches(pipe) and pipe.unet.config.get("addition_embed_type") == "text_time"

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        how = {"device": self.device, "do_classifier_free_guidance": False}
        embeds, _, pooled, _ = self.pipe.encode_prompt(list(prompts), **how)
        return self._sized(embeds, pooled, shape)

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        if self.negative_prompt is not None:  # given, even an empty one is encoded: only none at all is zeros
            return self.encode([self.negative_prompt] * count, shape)
        how = {"device": self.device, "do_classifier_free_guidance": True}
        _, embeds, _, pooled = self.pipe.encode_prompt([""] * count, **how)
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
