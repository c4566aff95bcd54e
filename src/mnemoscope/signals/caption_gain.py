"""What a picture's caption helps the model to denoise it."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.pictured import NoisedLook, SeenPictures
from mnemoscope.registry import signal


@signal(paper="arXiv:2405.14800", cost="1 pair of evaluations a time", needs=("captions",))
def caption_gain(pictured: SeenPictures, *, times: list | tuple = (0.2, 0.4, 0.6, 0.8, 0.95)) -> Float[Tensor, "B T"]:
    """Mean squared error of the predicted noise without the caption less that with it, at several times (CLiD).

    Above 0 where the caption helps; a model knows more of the captions that it was trained with. The published score
    averages over shortened captions and times; here no caption is the only other one, and each time is by itself.
    Raises `UsageError` for a model without an unconditional branch.
    """

    def gain(look: NoisedLook) -> Float[Tensor, " B"]:
        without = (look.step.eps_uncond - look.noise).square().flatten(1).mean(1)
        return without - look.error.square().flatten(1).mean(1)

    return pictured.over(times, gain)
