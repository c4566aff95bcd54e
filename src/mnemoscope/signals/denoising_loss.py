"""How well the model denoises a picture of known noise."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.registry import signal


@signal(paper="arXiv:2301.09956; arXiv:2411.12858", cost="1 evaluation a time")
def denoising_loss(
    pictured: SeenPictures, *, times: list | tuple = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
) -> Float[Tensor, "B T"]:
    """Minus the mean squared error of the predicted noise, at several times of the training schedule.

    0 for a picture that is known by heart, about -1 at most where the network predicts nothing of it. What a network
    was trained on (velocity, clean image) has an error of a fixed multiple of this one at each time. Values compare
    only at one time of one model.
    """
    return pictured.over(times, lambda look: -look.error.square().flatten(1).mean(1))
