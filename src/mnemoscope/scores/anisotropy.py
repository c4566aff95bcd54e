"""Asthana and Belagiannis: size of the text's push at high noise, and its angle at low noise."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mnemoscope.errors import UsageError
from mnemoscope.model.start import distinct
from mnemoscope.model.step import Step
from mnemoscope.registry import score

PUBLISHED_STEPS = 50


@score(paper="arXiv:2601.20642, section 4", cost="2 pairs of evaluations", units=True)
def anisotropy(
    step: Step,
    *,
    gamma_norm: int | float = 1,
    gamma_cos: int | float = 2,
    late: int = -3,
    cosine: Literal["vector", "pixel"] = "vector",
) -> Float[Tensor, " B"]:
    """Size of the text's push at this step plus its alignment with eps_uncond at a late timestep, weighted.

    gamma_norm ||D(x_t, t)||_2 + gamma_cos cos(D(x_t, t_late), eps_uncond(x_t, t_late)) with D = eps_cond - eps_uncond:
    both at the same latent, which is pure noise at the first step. The first D is the push in the predicted clean image
    where that is the model's unit. `late` is the index of t_late among the timesteps of the sampling, or of 50 steps
    for a step that is not part of one. The cosine is that of whole latents, or with "pixel" the mean over pixels of the
    cosine over channels, as the released code does. The weights suit Stable Diffusion 1; they are the authors', fitted
    to it. Raises `UsageError` for a timestep that the sampling has not, or a model without an unconditional branch.
    """
    sampling = step.model.sampler(PUBLISHED_STEPS, 1) if step.timesteps is None or step.levels is None else step
    timesteps, levels = sampling.timesteps, sampling.levels
    assert timesteps is not None and levels is not None
    if not -len(timesteps) <= late < len(timesteps):
        count = len(timesteps)
        raise UsageError(f"anisotropy was asked for timestep {late} of a sampling that has {count}; choose another.")
    t, level, x = timesteps[late], levels[late], step.x_t
    if x.requires_grad:  # equal latents share their prediction, but not their gradient
        eps_uncond = step.eps_at(x, t=t, level=level, branch="uncond")
    else:
        first, inverse = distinct(x)
        eps_uncond = step.eps_at(x[first], t=t, level=level, branch="uncond")[inverse]
    aligned = _cosine(step.eps_at(x, t=t, level=level) - eps_uncond, eps_uncond, cosine)
    return gamma_norm * step.pushed().flatten(1).norm(dim=1) + gamma_cos * aligned


def _cosine(a: Float[Tensor, "B C h w"], b: Float[Tensor, "B C h w"], kind: str) -> Float[Tensor, " B"]:
    if kind == "pixel":
        return cosine_similarity(a, b, dim=1).mean((1, 2))
    return cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
