"""Wen et al.: the size of the text-conditional noise."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2407.21720, section 3.3", cost="1 pair of evaluations")
def noise_norm(step: Step, *, p: int | float = 2) -> Float[Tensor, " B"]:
    """Size of the push that the text gives to the predicted noise, ||eps_cond - eps_uncond||_p, in latent units.

    From 0 upwards; grows with the number of latent elements, so that values compare only within one model, resolution
    and timestep. Raises `UsageError` for models without an unconditional branch.
    """
    return (step.eps_cond - step.eps_uncond).flatten(1).norm(p=p, dim=1)
