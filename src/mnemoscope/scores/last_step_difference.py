"""Kim and Lee: how much the text moves the score at the last step, free where an image is generated anyway."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2605.26756, mean over the map", cost="no evaluation beyond the sampling itself", steps="last")
def last_step_difference(step: Step) -> Float[Tensor, " B"]:
    """Squared difference of the two scores, ||(eps_cond - eps_uncond) / sigma||_2^2 over the number of pixels.

    The mean over latent pixels of a sum over channels. From 0 upwards; values compare only within one model and
    timestep. It looks at the last step by default. Raises `UsageError` for models without an unconditional branch, and
    at pure noise.
    """
    step.require_image("last_step_difference")
    push = (step.eps_cond - step.eps_uncond) / step.sigma
    return push.square().sum(1).mean((1, 2))
