"""The sampling loop as a generator of steps, for every family and every diffusers solver."""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.families import Cond, concatenate
from mnemoscope.step import Step, refuse_null_branch

if TYPE_CHECKING:
    from mnemoscope.denoiser import Denoiser

Edits = Sequence[tuple[str, Callable]]


class Sampler:
    """One sampling of a batch: its own solver, and the edits that were open when it began."""

    def __init__(
        self, model: "Denoiser", num_inference_steps: int, guidance_scale: float, share_uncond: bool, edits: Edits
    ) -> None:
        self.model, self.guidance_scale, self.share_uncond, self.edits = model, guidance_scale, share_uncond, edits
        self.scheduler = copy.deepcopy(model.pipe.scheduler)
        most = self.scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= most:
            raise UsageError(f"{num_inference_steps} sampling steps were asked for; this solver takes 1 to {most}.")
        if not math.isfinite(guidance_scale):
            raise UsageError(f"The guidance scale is {guidance_scale}; give a number, 1 for no guidance.")
        self.scheduler.set_timesteps(num_inference_steps, device=model.device)

    def steps(self, prompts: list[str], seeds: list[int], latents: Tensor | None) -> Iterator[Step]:
        """The steps in order; no gradient is recorded."""
        x, cond, generators = self._begin(prompts, seeds, latents)
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": generators} if takes_generator else {}
        for index, t in enumerate(self.scheduler.timesteps):
            with torch.no_grad():
                step = self._look(index, t, self.scheduler.scale_model_input(x, t), cond)
                self._edit("step", step)
                x = step.x_prev = self.scheduler.step(step.native, t, x, return_dict=False, **extra)[0]
            yield step

    @torch.no_grad()
    def _begin(
        self, prompts: list[str], seeds: list[int], latents: Tensor | None
    ) -> tuple[Tensor, Cond, list[torch.Generator]]:
        model = self.model
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        noise = model.noise_from(generators) if latents is None else latents.to(model.device, model.dtype)
        x = self._edit("noise", noise) * self.scheduler.init_noise_sigma
        cond = self._edit("cond", model.encode(self._edit("prompts", prompts), x.shape[1:]))
        return x, model.family.guided(cond, self.guidance_scale), generators

    def _edit(self, point: str, value: Any) -> Any:
        for change in (c for p, c in self.edits if p == point):
            changed = change(value)
            value = value if point == "step" else changed  # a step is changed in place
        return value

    def _look(self, index: int, t: Tensor, x_t: Tensor, cond: Cond) -> Step:
        model = self.model
        if model.family.unguided:
            null_branch = refuse_null_branch(model.source, model.family.unguided)
            native_cond = model.predict(x_t, t, cond)
        elif self.guidance_scale > 1 or self.share_uncond:
            native_cond, native_uncond = self._both(x_t, t, cond)
            null_branch = partial(torch.Tensor.clone, native_uncond)
        else:
            native_cond, null_branch = model.predict(x_t, t, cond), partial(model.predict_null, x_t, t)
        step = model.step(index, t, x_t, cond, self.guidance_scale, native_cond, null_branch)
        step.progress = index / len(self.scheduler.timesteps)
        return step

    def _both(self, x_t: Tensor, t: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """Both branches in one forward pass, in the order of the family's pipeline."""
        model = self.model
        first, inverse = distinct(x_t) if self.share_uncond else (slice(None), slice(None))
        nulls = x_t[first]
        null = model.null(len(nulls), x_t.shape[1:])
        if model.family.null_first:
            both = model.predict(torch.cat([nulls, x_t]), t, concatenate(null, cond))
            native_uncond, native_cond = both.split([len(nulls), len(x_t)])
        else:
            both = model.predict(torch.cat([x_t, nulls]), t, concatenate(cond, null))
            native_cond, native_uncond = both.split([len(x_t), len(nulls)])
        return native_cond, native_uncond[inverse]


def distinct(x_t: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first sample of each distinct x_t, and for each sample which of these it equals."""
    inverse = torch.unique(x_t.flatten(1), dim=0, return_inverse=True)[1]
    order = torch.arange(len(x_t), device=x_t.device)
    first = torch.full((int(inverse.max()) + 1,), len(x_t), device=x_t.device).scatter_reduce(0, inverse, order, "amin")
    return first, inverse
