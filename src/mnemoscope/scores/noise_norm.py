"""Wen et al.: the size of the text-conditional noise."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.schedule import Units
from mnemoscope.model.step import Step
from mnemoscope.registry import score


@score(paper="arXiv:2407.21720, section 3.3", cost="1 pair of evaluations", units=True)
def noise_norm(step: Step, *, p: int | float = 2, units: Units | None = None) -> Float[Tensor, " B"]:
    """Size of the push that the text gives to the prediction, ||eps_cond - eps_uncond||_p, in latent units.

    Where the noise schedule begins at pure noise (flows, zero terminal SNR) that is zero for every prompt, and the
    push of the predicted clean image stands in its place, ||x0_cond - x0_uncond||_p; `units` asks for either. At one
    step the latter is sigma / alpha times the former. From 0 upwards; grows with the number of latent elements, so that
    values compare only within one model, resolution, timestep and unit. Raises `UsageError` for models without an
    unconditional branch, and for eps at pure noise.
    """
    return step.pushed(units).flatten(1).norm(p=p, dim=1)
