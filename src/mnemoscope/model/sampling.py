"""The sampling loop as a generator of steps, for every family and every diffusers solver."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import schedule, solvers
from mnemoscope.model.cond import Cond, concatenate, rows
from mnemoscope.model.kept import Kept
from mnemoscope.model.solvers import scaled
from mnemoscope.model.start import Start, distinct
from mnemoscope.model.step import Step, refuse_null_branch

if TYPE_CHECKING:
    from mnemoscope.model.predictor import Predictor

Edits = Sequence[tuple[str, Callable]]


class Sampler:
    """One sampling of a batch: its own solver, and the edits that were open when it began.

    While `graph` is set, steps have a graph from the conditional prediction to `step.cond`, which is a leaf. `solver`,
    where it is given, is one whose timesteps are set; it is copied.
    """

    def __init__(
        self,
        model: "Predictor",
        num_inference_steps: int,
        guidance_scale: int | float,
        share_uncond: bool,
        edits: Edits,
        shape: Sequence[int] | None = None,
        solver: Any = None,
    ) -> None:
        self.model, self.guidance_scale, self.share_uncond, self.edits = model, guidance_scale, share_uncond, edits
        self.num_inference_steps, self.graph, self.kept = num_inference_steps, False, Kept()
        solvers.check_steps(model.pipe.scheduler, num_inference_steps)
        solvers.check_guidance_scale(guidance_scale)
        self.begun = solver or solvers.timed(model, num_inference_steps, shape or model.latent_shape)  # never stepped
        self.scheduler = solvers.copied(self.begun)
        self.timesteps: Tensor = self.scheduler.timesteps
        self.levels: Sequence[schedule.Level] = solvers.levels(self.scheduler)
        if self.levels[0].alpha == 0 and model.prediction_type == "epsilon":
            raise UsageError("The sampling begins at pure noise, and of predicted noise no image follows there.")

    def steps(self, prompts: list[str], seeds: list[int], latents: Tensor | None) -> Iterator[Step]:
        """The steps in order; no gradient is recorded unless `graph` is set."""
        x, start, generators = self.begin(prompts, seeds, latents)
        x = self.state_of(x, start)
        extra = self._extra(generators)
        for index, t in enumerate(self.timesteps):
            step = self._step(index, t, scaled(self.scheduler, x, t), start)
            taken = step.detached() if self.graph else step
            with torch.no_grad():
                for change in [*self._changes("step"), *start.step_changes]:
                    change(taken)
                x = step.x_prev = self.scheduler.step(taken.native, t, x, return_dict=False, **extra)[0]
            yield step

    def begin(
        self, prompts: list[str], seeds: list[int], latents: Tensor | None = None
    ) -> tuple[Tensor, Start, list[torch.Generator]]:
        """The solver's first state, what the sampling starts from after all edits, and each sample's generator."""
        x, start, generators = self._begin(prompts, seeds, latents)
        for change in self._changes("start"):
            change(start)
        return x, start, generators

    @torch.no_grad()
    def _begin(
        self, prompts: list[str], seeds: list[int], latents: Tensor | None
    ) -> tuple[Tensor, Start, list[torch.Generator]]:
        model = self.model
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        noise = model.noise_from(generators) if latents is None else latents.to(model.device, model.family.state_dtype)
        x = self._edit("noise", noise) * getattr(self.scheduler, "init_noise_sigma", 1.0)
        prompts = self._edit("prompts", prompts)
        cond = model.family.guided(self._edit("cond", model.encode(prompts, x.shape[1:])), self.guidance_scale)
        return x, Start(self, prompts, seeds, self._scaled(x, 0), cond), generators

    def _extra(self, generators: list[torch.Generator]) -> dict[str, Any]:
        """What the solver takes beside the prediction: a generator for each sample, and the pipeline's own eta."""
        takes, gives = (inspect.signature(f).parameters for f in (self.scheduler.step, self.model.pipe.__call__))
        extra: dict[str, Any] = {"eta": gives["eta"].default} if "eta" in takes and "eta" in gives else {}
        return extra | ({"generator": generators} if "generator" in takes else {})

    def _changes(self, point: str) -> list[Callable]:
        return [change for p, change in self.edits if p == point]

    def _edit(self, point: str, value: Any) -> Any:
        for change in self._changes(point):
            value = change(value)
        return value

    def _scaled(self, x: Tensor, index: int) -> Tensor:
        return scaled(copy.deepcopy(self.scheduler), x, self.timesteps[index])  # some count their calls

    def state_of(self, x: Tensor, start: Start) -> Tensor:
        """The solver's state x for a start: as it was, but for samples that were changed."""
        unit = self._scaled(torch.ones((), dtype=torch.float64), 0)
        moved = (start.x_t.detach() / unit.to(x)).to(x.dtype)
        return torch.where(start.changed.to(x.device)[:, None, None, None], moved, x) if start.changed.any() else x

    def look(self, start: Start) -> Step:
        """The first step of a start as it stands, without a graph."""
        with torch.no_grad():
            return self.look_at(0, self.timesteps[0], start.x_t, start.cond, start.null)

    def state(self, start: Start, index: int) -> tuple[Tensor, Tensor]:
        """x_t and t of a later step, sampled plainly from the start as it stands; raises `UsageError` past the last."""
        if index >= len(self.timesteps):
            raise UsageError(f"Step {index} was asked for, and the solver takes {len(self.timesteps)}, counted from 0.")
        about = (self.model, self.num_inference_steps, self.guidance_scale, self.share_uncond)
        plain = Sampler(*about, (), start.x_t.shape[1:], self.begun)
        unit = self._scaled(torch.ones((), dtype=torch.float64), 0)
        x = start.x_t / unit.to(start.x_t)
        extra = self._extra([torch.Generator().manual_seed(s) for s in start.seeds])
        with torch.no_grad():
            for k, t in enumerate(plain.timesteps[:index]):
                step = plain.look_at(k, t, scaled(plain.scheduler, x, t), start.cond, start.null)
                x = plain.scheduler.step(step.native, t, x, return_dict=False, **extra)[0]
        return scaled(plain.scheduler, x, self.timesteps[index]), self.timesteps[index]

    def _step(self, index: int, t: Tensor, x_t: Tensor, start: Start) -> Step:
        if self.graph:
            return self.look_at(index, t, x_t, self.leaves(start.cond), start.null, graph=True)
        with torch.no_grad():
            if index == 0 and (start.is_looked_at or start.known):
                return self._first(start)
            return self.look_at(index, t, x_t, start.cond, start.null)

    def again(self, step: Step) -> Step:
        """A step as it was computed, with a graph from its conditional prediction to leaves in the conditioning."""
        cond = self.leaves(step.cond)
        native_cond = self.model.predict(step.x_t, step.t, cond)
        return self.made(step.index, step.t, step.x_t, cond, native_cond, lambda: step.native_uncond, step.null)

    def _first(self, start: Start) -> Step:
        """The first step of a start that a mitigation has looked at already: only what it changed is computed anew."""
        if not start.changed.any():
            return start.first
        if start.known:
            native_cond, native_uncond = start.known
            null_branch: Callable = partial(torch.clone, native_uncond)
        else:
            index = start.changed.nonzero()[:, 0]
            new, old = self.look(start.select(index)), start.first
            index = index.to(old.x_t.device)
            native_cond = old.native_cond.index_copy(0, index, new.native_cond)
            null_branch = lambda: old.native_uncond.index_copy(0, index, new.native_uncond)  # noqa: E731
        return self.made(0, self.timesteps[0], start.x_t, start.cond, native_cond, null_branch, start.null)

    def look_at(
        self, index: int, t: Tensor, x_t: Tensor, cond: Cond, null: Cond | None, *, graph: bool = False
    ) -> Step:
        model = self.model
        if model.family.unguided:
            null_branch: Callable = refuse_null_branch(model.source, model.family.unguided)
            native_cond = model.predict(x_t, t, cond)
        elif graph:
            native_cond, null_branch = model.predict(x_t, t, cond), partial(self.null_alone, x_t, t, null)
        elif model.family.guides(self.guidance_scale) or (self.share_uncond and model.family.joined):
            native_cond, native_uncond = self._both(x_t, t, cond, null)
            null_branch = partial(torch.Tensor.clone, native_uncond)
        else:
            native_cond, null_branch = model.predict(x_t, t, cond), partial(self.null_alone, x_t, t, null)
        return self.made(index, t, x_t, cond, native_cond, null_branch, null)

    def made(
        self,
        index: int,
        t: Tensor,
        x_t: Tensor,
        cond: Cond,
        native_cond: Tensor,
        null_branch: Callable,
        null: Cond | None = None,
    ) -> Step:
        """A step of this sampling from its conditional prediction; `null` is a conditioning in place of no prompt's."""
        scale, ts = self.guidance_scale, self.timesteps
        step = self.model.step(index, t, x_t, cond, scale, native_cond, null_branch, ts, self.levels)
        step.progress, step.null = index / len(ts), null
        return step

    @torch.no_grad()
    def null_alone(self, x_t: Tensor, t: Tensor, null: Cond | None) -> Tensor:
        """The unconditional prediction by itself, shared where latents are."""
        first, inverse, null = self._nulls(x_t, null)
        return self.model.predict(x_t[first], t, null)[inverse]

    def _nulls(self, x_t: Tensor, null: Cond | None) -> tuple[Any, Any, Cond]:
        """Which samples' latents the unconditional branch is computed at, whose it then is, and its conditioning."""
        shared = self.share_uncond and null is None
        first, inverse = distinct(x_t) if shared else (slice(None), slice(None))
        return first, inverse, null or self.null(len(x_t[first]), x_t.shape[1:])

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        """Conditioning of the unconditional branch, repeated; that of one sample is asked of the model once."""
        one = self.kept(tuple(shape), lambda: self.model.null(1, shape, self.guidance_scale))
        return rows(one, torch.zeros(count, dtype=torch.long))

    def _both(self, x_t: Tensor, t: Tensor, cond: Cond, null: Cond | None) -> tuple[Tensor, Tensor]:
        """Both branches in one forward pass or two, in the order of the family's pipeline."""
        first, inverse, null = self._nulls(x_t, null)
        nulls = x_t[first]
        if not self.model.family.joined:
            native_cond = self.model.predict(x_t, t, cond)
            native_uncond = self.model.predict(nulls, t, null)
        elif self.model.family.null_first:
            both = self.model.predict(torch.cat([nulls, x_t]), t, concatenate(null, cond))
            native_uncond, native_cond = both.split([len(nulls), len(x_t)])
        else:
            both = self.model.predict(torch.cat([x_t, nulls]), t, concatenate(cond, null))
            native_cond, native_uncond = both.split([len(x_t), len(nulls)])
        return native_cond, native_uncond[inverse]

    def leaves(self, cond: Cond) -> Cond:
        """The same conditioning, with embeddings that gradients are taken with respect to."""
        wanted = (*self.model.family.texts, *self.model.family.pooled)
        return {k: v.detach().requires_grad_() if k in wanted else v for k, v in cond.items()}
