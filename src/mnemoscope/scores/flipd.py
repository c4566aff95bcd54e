"""FLIPD: how many dimensions the model leaves free around an image."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.model import jacobian
from mnemoscope.model.jacobian import Derivative, Probes
from mnemoscope.model.step import Branch, Step
from mnemoscope.registry import score

PREDICTED = {"cond": "eps_cond", "uncond": "eps_uncond", "guided": "eps"}


@score(
    paper="arXiv:2406.03537, section 3; arXiv:2411.00113",
    cost="1 pair of evaluations, and 1 forward-mode or 2 plain ones a probe",
    steps=0.7,
)
def flipd(
    step: Step,
    *,
    branch: Branch = "cond",
    mode: Literal["trajectory", "clean"] = "clean",
    trace: Probes = "rademacher",
    probes: int = 1,
    derivative: Derivative = "forward",
    h: int | float = 0.01,
    seed: int = 0,
    compat: Literal["layer6"] | None = None,
) -> Float[Tensor, " B"]:
    """Minus the local intrinsic dimension of the model's density, -(D - sigma tr(grad eps) + ||eps||_2^2).

    About -D, the number of latent elements, where the density is broad, and 0 at a single memorized image; not bounded
    by either. Values compare only within one model, resolution, timestep and mode. `mode="clean"` evaluates it at the
    clean latents that the branch predicts, scaled by alpha; "trajectory" at x_t, which stands for the noisy x_t / alpha
    and is -D on average over what was drawn from the branch's own density, whatever that is. The trace is the mean over
    random probes, the same for every sample, or "exact" with one for each latent element. `derivative="central"` takes
    differences of h times sigma in place of the exact forward mode. `compat="layer6"` leaves D out, and takes guided
    eps at x_t and the trace of guidance_scale (eps_cond - eps_uncond) by one Gaussian probe, as the released code does
    in mitigation; only `derivative` and `h` count then. Its attribution takes each branch for the other, so that the
    trace has the opposite sign beside the norm: `token_gradients` gives that by its own `compat="layer6"`. Raises
    `UsageError` where the branch asked for does not exist and at pure noise.
    """
    step.require_image("flipd")
    if compat == "layer6":
        return _released(step, derivative, h)

    def eps(x: Float[Tensor, "N C h w"], samples: Int[Tensor, " N"]) -> Float[Tensor, "N C h w"]:
        return step.eps_at(x.to(step.x_t.dtype), branch=branch, samples=samples)

    x_t = step.x_t.float()
    if mode == "clean":
        x_t = x_t - step.sigma * getattr(step, PREDICTED[branch])
    options: dict[str, Any] = {"how": trace, "probes": probes, "seed": seed, "derivative": derivative, "h": h}
    return -jacobian.dimension(eps, x_t, step.sigma, **options).value


def _released(step: Step, derivative: Derivative, h: int | float) -> Float[Tensor, " B"]:
    """The released code's value: its network function holds the unconditional branch fixed, but for the push."""

    def push(x: Float[Tensor, "N C h w"], samples: Int[Tensor, " N"]) -> Float[Tensor, "N C h w"]:
        x = x.to(step.x_t.dtype)
        difference = step.eps_at(x, samples=samples) - step.eps_at(x, branch="uncond", samples=samples)
        return step.guidance_scale * (-difference if step.swapped else difference)

    x_t = step.x_t.float()
    probe = torch.randn(x_t.shape[1:], generator=torch.Generator().manual_seed(42)).to(x_t.device).expand_as(x_t)
    moved = jacobian.along(push, x_t, probe, derivative=derivative, h=h * step.sigma)[1]
    trace = (probe * moved).flatten(1).sum(1)
    return step.sigma * trace - step.eps.flatten(1).square().sum(1)
