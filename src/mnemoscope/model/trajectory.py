"""A batch of samplings that goes only as far as it is asked to."""

import sys
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.step import Step

Steps = int | float | str | Sequence[int]  # the first n, the one at a share of the sampling, "all", "last", indices


class Trajectory:
    """B samplings, one prompt and one seed (or given latent) each; no step is computed twice or before it is needed.

    A single prompt is used for all seeds or latents, and a single seed for all prompts. Samples that share x_T share
    the unconditional prediction there.
    """

    def __init__(
        self,
        model: Denoiser,
        prompts: Sequence[str] | str,
        seeds: Sequence[int] | int | None = None,
        latents: Float[Tensor, "B C h w"] | None = None,
        num_inference_steps: int = 50,
        guidance_scale: int | float | None = None,
    ) -> None:
        self.model = model
        self.prompts, self.seeds = paired(prompts, seeds, latents)
        self.num_inference_steps = num_inference_steps
        self._steps: list[Step] = []
        self._broken = False
        self._sampler = model.sampler(
            num_inference_steps,
            guidance_scale,
            share_uncond=not model.family.unguided,
            shape=None if latents is None else latents.shape[1:],
        )
        self.guidance_scale = self._sampler.guidance_scale
        self._ahead = self._sampler.steps(self.prompts, self.seeds, latents)

    def __len__(self) -> int:
        return len(self.prompts)

    def first(self, n: int) -> list[Step]:
        """The first n steps, fewer if the solver takes fewer; raises `UsageError` if n is below 1."""
        if n < 1:
            raise UsageError(f"{n} steps were asked of a trajectory; ask for at least 1.")
        while len(self._steps) < n:
            step = self._next()
            if step is None:
                break
            self._steps.append(step)
        return self._steps[:n]

    def _next(self) -> Step | None:
        if self._broken:
            raise UsageError(f"An error ended this trajectory after {len(self._steps)} steps; start a new one.")
        self._broken = True  # until the step is there: a generator that an error ended would just seem to be done
        step = next(self._ahead, None)
        self._broken = False
        return step

    def all(self) -> list[Step]:
        """Every step down to the image."""
        return self.first(sys.maxsize)  # solvers may take more steps than inference steps

    @property
    def timesteps(self) -> Tensor:
        """Every timestep of the sampling, whether it was computed yet or not."""
        return self._sampler.timesteps

    def indices(self, steps: Steps) -> list[int]:
        """Which steps are meant: the first n, all, the last, these indices, or the one at a share of the sampling.

        A share is above 0 and below 1: 0.5 is the middle of the sampling. Raises `UsageError` for anything else.
        """
        count = len(self.timesteps)
        if steps in ("all", "last"):
            return list(range(count)) if steps == "all" else [count - 1]
        if isinstance(steps, int) and not isinstance(steps, bool):
            if steps < 1:
                raise UsageError(f"{steps} steps were asked of a trajectory; ask for at least 1.")
            return list(range(min(steps, count)))
        if isinstance(steps, float) and 0 < steps < 1:
            return [int(steps * count)]
        if isinstance(steps, str) or not isinstance(steps, Sequence):
            raise UsageError(f"steps was '{steps}'; give a number, a list of indices, all, or last.")
        known = sorted({i for i in steps if isinstance(i, int) and not isinstance(i, bool) and i >= 0})
        if not known or len(known) != len(set(steps)):
            raise UsageError(f"steps was {list(steps)}; give the indices of one or more steps, counted from 0.")
        if known[-1] >= count:
            raise UsageError(f"Step {known[-1]} was asked for, and the solver takes {count}, counted from 0.")
        return known

    def chosen(self, steps: Steps) -> list[Step]:
        """The steps that `steps` means; none after the last of them is computed."""
        wanted = self.indices(steps)
        known = self.first(wanted[-1] + 1)
        return [known[i] for i in wanted]

    @torch.enable_grad()
    def with_graph(self, index: int) -> Step:
        """A step with a graph from the conditional prediction to `step.cond`, whose embeddings are leaves.

        The unconditional prediction has no graph: it does not depend on the prompt. Costs nothing beyond the step
        itself, if the step was not computed before; otherwise its conditional prediction is computed once more.
        """
        if index:
            self.first(index)
        if index < len(self._steps):
            return self._sampler.again(self._steps[index])
        self._sampler.graph = True
        try:
            step = self._next()
        finally:
            self._sampler.graph = False
        if step is None:
            raise UsageError(f"Step {index} was asked for, and the solver takes {len(self._steps)}, counted from 0.")
        self._steps.append(step.detached())
        return step


def paired(
    prompts: Sequence[str] | str, seeds: Sequence[int] | int | None, latents: Tensor | None
) -> tuple[list[str], list[int]]:
    """Prompts and seeds of equal number, a single one repeated; raises `UsageError` where they do not match."""
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if seeds is None:
        numbers = list(range(len(texts) if latents is None else len(latents)))
    else:
        numbers = [seeds] if isinstance(seeds, int) else list(seeds)
    count = max(len(texts), len(numbers)) if latents is None else len(latents)
    texts = texts * count if len(texts) == 1 else texts
    numbers = numbers * count if len(numbers) == 1 else numbers
    if not texts or {len(texts), len(numbers)} != {count}:
        given = f"{len(texts)} prompts and {len(numbers)} seeds" + ("" if latents is None else f" for {count} latents")
        raise UsageError(f"{given} do not pair up; give one prompt and one seed for each sample.")
    return texts, numbers
