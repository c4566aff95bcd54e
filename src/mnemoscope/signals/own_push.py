"""The push of a picture's caption at the picture itself."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.registry import signal


@signal(paper="arXiv:2407.21720, section 3.3", cost="1 pair of evaluations a time", needs=("captions",))
def own_push(pictured: SeenPictures, *, times: list | tuple = (0.4, 0.6, 0.8, 0.95)) -> Float[Tensor, "B T"]:
    """Size of the push that the caption gives to the prediction at the picture's own noised latents, at several times.

    As `noise_norm`, which looks at pure noise: in units of eps, or of the clean latents for flows and schedules that
    begin at pure noise. Raises `UsageError` for a model without an unconditional branch.
    """
    return pictured.over(times, lambda look: look.step.pushed().flatten(1).norm(dim=1))
