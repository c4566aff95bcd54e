"""Wen et al.: the companion of the text-conditional noise."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2407.21720, released code", cost="1 evaluation")
def uncond_norm(step: Step, *, p: int | float = 2) -> Float[Tensor, " B"]:
    """Size of the noise predicted without any prompt, ||eps_uncond||_p, in latent units.

    About the square root of the number of latent elements for p = 2. It does not look at the prompt at the first step:
    a companion of `noise_norm`, not a detector to rely on. Raises `UsageError` without an unconditional branch, and at
    pure noise, where it is the norm of x_T.
    """
    step.require_image("uncond_norm")
    return step.eps_uncond.flatten(1).norm(p=p, dim=1)
