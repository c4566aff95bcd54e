"""Experimental: images that a fine-tuned model may have been trained on, by going on from its base model beyond it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.schedule import Level
from mnemoscope.model.start import Start
from mnemoscope.model.step import Step

Reference = Literal["uncond", "cond", "guided"]


@dataclass(frozen=True)
class Candidate:
    """An image that the fine-tuned model may have been trained on, with what it was drawn from."""

    prompt: str
    seed: int
    image: Image.Image


@contextmanager
def extrapolated(
    model: Denoiser,
    base: Denoiser,
    *,
    weight: int | float = 3.0,
    reference: Reference = "uncond",
    correction: int | float = 0.0,
) -> Iterator[None]:
    """Let a fine-tuned model's samplings go beyond it, away from its base model; experimental.

    eps = eps_ft + (weight - 1) (eps_ft - eps_base) + correction eps_base, where eps_ft is what the solver would take
    and eps_base what the base model predicts at the same x_t: without a prompt ("uncond", as the authors' code), for
    the prompt ("cond"), or guided by the sampling's scale ("guided"). A weight of 1 without a correction is the
    fine-tuned model, bit for bit. The authors sample without guidance, at a weight of 3 and a correction of -0.02 for
    a fine-tuned network, and 5 for a LoRA. Costs one evaluation of the base model a sample and step, two if guided,
    which count as the fine-tuned model's too.

    Raises `UsageError` where the two models have other latents or noise levels, or the base model no such branch.
    Wu, Zhang and Wu (FineXtract), ICML 2025, arXiv:2410.03039.
    """
    require_alike(model, base)
    if base.family.unguided and reference != "cond":
        why = f"the base model has no unconditional branch ({base.family.unguided})"
        raise UsageError(f"The reference '{reference}' is not to be had: {why}; use cond.")

    def begin(start: Start) -> None:
        if weight != 1 or correction:
            there = partial(_base_prediction, base, _conditioned(base, start, reference), reference)
            start.each_step(partial(_go_beyond, model, base, there, weight, correction))

    with model.edit("start", begin):
        yield


def candidates(
    model: Denoiser,
    base: Denoiser,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    weight: int | float = 3.0,
    reference: Reference = "uncond",
    correction: int | float = 0.0,
    num_inference_steps: int = 50,
    guidance_scale: int | float = 1.0,
) -> Iterator[Candidate]:
    """Draw every prompt from every seed beyond the fine-tuned model; experimental, see `extrapolated`.

    Prompts are captions that the fine-tuning may have used. Images that come again from other seeds are the likelier
    to be training images: the measure `cliques` finds them.
    """
    sampling: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    for prompt in prompts:
        with extrapolated(model, base, weight=weight, reference=reference, correction=correction):
            images = model.generate([prompt] * len(seeds), seeds, **sampling)
        for seed, image in zip(seeds, images, strict=True):
            yield Candidate(prompt, seed, image)


def require_alike(model: Denoiser, base: Denoiser) -> None:
    """Raise `UsageError` for a base model with other latents or other noise levels than the fine-tuned one."""
    if model.latent_shape != base.latent_shape:
        shapes = f"latents of {list(model.latent_shape)}, and the base model of {list(base.latent_shape)}"
        raise UsageError(f"The fine-tuned model has {shapes}; give the model that it was fine-tuned from.")
    own, other = (getattr(m.pipe.scheduler, "alphas_cumprod", torch.empty(0)).cpu() for m in (model, base))
    if not torch.equal(own, other):  # a flow has none
        raise UsageError("The two models have other noise levels; give the model that the other was fine-tuned from.")


def _conditioned(base: Denoiser, start: Start, reference: Reference) -> tuple[Cond | None, Cond | None]:
    """The base model's own conditioning of the samples, as far as the reference needs it: prompt, no prompt."""
    shape = start.x_t.shape[1:]
    cond = None
    if reference != "uncond":
        if start.prompts is None:
            raise UsageError(f"The reference '{reference}' needs prompts, and only embeddings were given; use uncond.")
        cond = base.family.guided(base.encode(start.prompts, shape), start.solver.guidance_scale)
    guides = reference == "uncond" or (reference == "guided" and start.solver.guidance_scale > 1)
    return cond, base.null(len(start), shape) if guides else None


def _base_prediction(
    base: Denoiser, conds: tuple[Cond | None, Cond | None], reference: Reference, step: Step
) -> Float[Tensor, "B C h w"]:
    x_t = step.x_t.to(base.device, base.dtype)
    level = Level(step.alpha, step.sigma)
    cond, null = (None if c is None else base.predict_noise(x_t, step.t, c, level) for c in conds)
    if cond is None or null is None:
        branch = null if cond is None else cond
        assert branch is not None
        return branch.to(step.x_t.device)
    return (null + step.guidance_scale * (cond - null)).to(step.x_t.device)


def _go_beyond(
    model: Denoiser, base: Denoiser, there: Any, weight: int | float, correction: int | float, step: Step
) -> None:
    before = base.network_evaluations
    eps, eps_base = step.eps, there(step)
    model.network_evaluations += base.network_evaluations - before
    step.eps = eps + (weight - 1) * (eps - eps_base) + correction * eps_base
