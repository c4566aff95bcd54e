"""The size of the score that guided sampling follows."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2411.00113, section 4", cost="1 pair of evaluations")
def score_norm(step: Step, *, compat: Literal["layer6"] | None = None) -> Float[Tensor, " B"]:
    """Size of the guided score, ||eps||_2 / sigma with sigma = sqrt(1 - alpha_bar), in 1 / latent units.

    eps is the guided prediction, so that values compare only at one guidance scale and timestep. `compat="layer6"`
    leaves out the division by sigma, as the released attribution code does. Raises `UsageError` at pure noise, where it
    is the norm of x_T.
    """
    step.require_image("score_norm")
    norm = step.eps.flatten(1).norm(dim=1)
    return norm if compat == "layer6" else norm / step.sigma
