"""Any diffusers pipeline seen as a noise predictor."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mnemoscope.model import schedule
from mnemoscope.model.attention import steered
from mnemoscope.model.bounds import Bounded
from mnemoscope.model.cond import Cond
from mnemoscope.model.edits import Editable
from mnemoscope.model.identity import description, weights_hash
from mnemoscope.model.known import family_of
from mnemoscope.model.sampling import Sampler
from mnemoscope.model.sending import Sendable
from mnemoscope.model.step import Step, refuse_null_branch


class Denoiser(Editable, Bounded, Sendable):
    """A pipeline as `predict_noise(x_t, t, cond) -> eps`, whatever the network itself predicts.

    The pipeline stays the user's own and keeps working; its parameters are frozen (`requires_grad = False`) and its
    modules put in evaluation mode. `network_evaluations` counts forward passes in samples, both branches counted.
    `size` is that of the images, if not the model's own; `call` are arguments of the pipeline's own call that the
    conditioning depends on, such as `max_sequence_length`, for families known by a row (`mnemoscope.model.rows`).
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        source: str = "",
        *,
        size: tuple[int, int] | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> None:
        self.pipe = pipe
        self.family = family_of(pipe, call)
        self.family.draw_at(size)
        self.drawn_by = size, call
        self.source = source or type(pipe).__name__
        self.opened: Any = None  # an `Opened`: what was put into it and warned about when it was loaded
        self.prediction_type = schedule.prediction_type(pipe.scheduler)
        self.network_evaluations = 0
        super().__init__()
        for module in self.modules.values():
            module.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, model: str | Path, **how: Any) -> "Denoiser":
        """Load "demo", "demo-flow", a folder, a single-file checkpoint or a hub id, as `model.loading.open_model`."""
        from mnemoscope.model.loading import open_model

        opened = open_model(str(model), **how)
        denoiser = cls(opened.pipe, source=str(model), size=opened.size)
        denoiser.opened, denoiser.asked = opened, how
        return denoiser

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The pipeline's networks by the name of their component."""
        return {k: v for k, v in self.pipe.components.items() if isinstance(v, nn.Module)}

    @property
    def network(self) -> Any:
        return self.family.network

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents of one image."""
        return self.family.latent_shape

    @property
    def units(self) -> schedule.Units:
        """Unit of the text's push; see `mnemoscope.model.schedule.units`."""
        return schedule.units(self.pipe.scheduler)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the images that are drawn."""
        return self.latent_shape[1] * self.family.pixels, self.latent_shape[2] * self.family.pixels

    @property
    def device(self) -> torch.device:
        return self.family.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @cached_property
    def weights_hash(self) -> str:
        """First 16 hex digits of a SHA-256 over all parameters and buffers, by name."""
        return weights_hash(self.modules)

    def describe(self) -> Mapping[str, Any]:
        """What identifies the model in a run record; see `mnemoscope.model.identity`."""
        return description(self, self.weights_hash)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], shape: Sequence[int] | None = None) -> Cond:
        """Conditioning of each prompt, batch first; `shape` is the latents', where it is not the model's own.

        Each prompt goes through the text encoders by itself, and once: its encoding is kept while there is room, and as
        long as the encoders and their weights stay what they are.
        """
        return self.family.encoded(list(prompts), shape or self.latent_shape)

    @torch.no_grad()
    def null(self, count: int, shape: Sequence[int] | None = None, guidance_scale: int | float | None = None) -> Cond:
        """Conditioning of the unconditional branch, repeated; raises `UsageError` where there is none.

        A network that takes the guidance scale is given this one.
        """
        if self.family.unguided:
            refuse_null_branch(self.source, self.family.unguided)()
        before = self.family.evaluations
        null = self.family.encoded_null(count, shape or self.latent_shape)
        self.network_evaluations += self.family.evaluations - before
        return null if guidance_scale is None else self.family.guided(null, guidance_scale)

    def initial_noise(self, seeds: Sequence[int]) -> Float[Tensor, "B C h w"]:
        """Noise of each image from a CPU generator of its own, so that it depends on its seed alone."""
        return self.noise_from([torch.Generator().manual_seed(s) for s in seeds])

    def noise_from(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "B C h w"]:
        """Noise of one image from each generator, drawn in float32 on the CPU."""
        noise = torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators])
        return noise.to(self.device, self.family.state_dtype)

    def predict(self, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Cond) -> Float[Tensor, "B C h w"]:
        """What the network predicts at x_t, in its own units; differentiable, and counted, steered as `cond` says."""
        self.network_evaluations += len(x_t)
        return self.in_parts(partial(steered, self.network, self.family.predict), x_t, t, cond)

    def predict_noise(
        self, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Cond, level: schedule.Level | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Noise predicted at x_t, eps, whatever the network itself predicts; differentiable, in float32.

        `level` is that of x_t, where it is not the training schedule's at t.
        """
        alpha, sigma = level or schedule.alpha_sigma(self.pipe.scheduler, t)
        native = self.predict(x_t, t, cond)
        return schedule.to_eps(native.float(), x_t.float(), alpha, sigma, self.prediction_type)

    def observe(
        self,
        x_t: Float[Tensor, "B C h w"],
        t: Tensor,
        cond: Cond,
        *,
        index: int = 0,
        guidance_scale: int | float | None = None,
        timesteps: Tensor | None = None,
    ) -> Step:
        """The step that the network sees at x_t, with a graph to whatever requires a gradient.

        The unconditional branch depends on x_t but not on the prompt: it has a graph only if x_t requires a gradient.
        """
        guidance_scale = self.family.guidance(guidance_scale)
        cond = self.family.guided(cond, guidance_scale)
        null = partial(self.predict_null, x_t, t, guidance_scale=guidance_scale)
        return self.step(index, t, x_t, cond, guidance_scale, self.predict(x_t, t, cond), null, timesteps)

    def predict_null(
        self, x_t: Tensor, t: Tensor, null: Cond | None = None, guidance_scale: int | float | None = None
    ) -> Float[Tensor, "B C h w"]:
        """What the network predicts at x_t without a prompt; has a graph only if x_t requires a gradient."""
        null = null or self.null(len(x_t), x_t.shape[1:], guidance_scale)
        with torch.set_grad_enabled(x_t.requires_grad and torch.is_grad_enabled()):
            return self.predict(x_t, t, null)

    def step(
        self,
        index: int,
        t: Tensor,
        x_t: Tensor,
        cond: Cond,
        guidance_scale: int | float,
        native_cond: Tensor,
        null_branch: Any,
        timesteps: Tensor | None = None,
        levels: Sequence[schedule.Level] | None = None,
    ) -> Step:
        """A step from its conditional prediction, at its solver's level, else the training schedule's."""
        alpha, sigma = schedule.alpha_sigma(self.pipe.scheduler, t) if levels is None else levels[index]
        at = (index, t, x_t, cond, alpha, sigma, guidance_scale)
        return Step(*at, self, native_cond, null_branch, timesteps=timesteps, levels=levels)

    def steps(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        latents: Float[Tensor, "B C h w"] | None = None,
        num_inference_steps: int = 50,
        guidance_scale: int | float | None = None,
        share_uncond: bool = False,
    ) -> Iterator[Step]:
        """Sampling as a generator of steps, equal to the pipeline's own bit for bit on the CPU.

        `latents` is explicit noise in place of the seeds'. With `share_uncond` samples of equal x_t share one
        unconditional prediction: fewer evaluations, another batch, hence equal only up to rounding.
        """
        shape = None if latents is None else latents.shape[1:]
        sampler = self.sampler(num_inference_steps, guidance_scale, share_uncond, shape)
        return sampler.steps(list(prompts), list(seeds), latents)

    def sampler(
        self,
        num_inference_steps: int,
        guidance_scale: int | float | None = None,
        share_uncond: bool = False,
        shape: Sequence[int] | None = None,
    ) -> Sampler:
        """One sampling of latents of this shape, still to begin; without a guidance scale at the pipeline's own."""
        scale = self.family.guidance(guidance_scale)
        return Sampler(self, num_inference_steps, scale, share_uncond, tuple(self._edits), shape)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Images of latents, in [0, 1] and float32; raises `ValueError` for what would be black for want of numbers."""
        images = (self.piecewise(self.family.decode, latents) / 2 + 0.5).clamp(0, 1).float()
        if images.isnan().any():
            raise ValueError("the decoded image holds NaN: the numbers overflow in this dtype, so use another")
        return images

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], **sampling: Any) -> list[Image.Image]:
        """One image for each prompt and seed; `sampling` as in `steps`."""
        for step in self.steps(prompts, seeds, **sampling):
            last = step.x_prev
        return VaeImageProcessor.numpy_to_pil(self.decode(cast(Tensor, last)).cpu().permute(0, 2, 3, 1).numpy())
