"""Jeon et al.: how much sharper the text makes the density, along the direction that the text pushes."""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.model import jacobian
from mnemoscope.model.jacobian import Derivative
from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2412.04140, section 4", cost="1 pair of evaluations, and 1 forward-mode or 2 plain ones more")
def sharpness(
    step: Step, *, derivative: Derivative = "forward", h: int | float = 0.01, compat: Literal["sail"] | None = None
) -> Float[Tensor, " B"]:
    """Curvature that the text adds along its own push, ||(H_cond - H_uncond)(s_cond - s_uncond)||_2^2.

    s = -eps / sigma is the score and H its Jacobian, so that one Hessian-vector product is all it takes. From 0
    upwards, in latent units to the power of -6; values compare only within one model, resolution and timestep.
    `derivative="central"` takes differences of h times sigma in place of the exact forward mode. `compat="sail"` does
    not square the norm, as the released code does. Raises `UsageError` for models without an unconditional branch, and
    at pure noise, where nothing curves.
    """
    step.require_image("sharpness")

    def push(x: Float[Tensor, "N C h w"], samples: Int[Tensor, " N"]) -> Float[Tensor, "N C h w"]:
        x = x.to(step.x_t.dtype)
        eps_uncond = step.eps_at(x, branch="uncond", samples=samples)
        return step.eps_at(x, samples=samples) - eps_uncond

    direction = step.eps_cond - step.eps_uncond
    x_t = step.x_t.float()
    product = jacobian.along(push, x_t, direction, derivative=derivative, h=h * step.sigma)[1] / step.sigma**2
    norm = product.flatten(1).norm(dim=1)
    return norm if compat == "sail" else norm.square()
