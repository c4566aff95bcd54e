"""How well the noise that the model sees in the clean picture fits the picture."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.pictured import SeenPictures, some
from mnemoscope.registry import signal


@signal(paper="arXiv:2305.18355", cost="1 evaluation, and 1 a time")
def proximal_initialization(
    pictured: SeenPictures, *, times: list | tuple = (0.1, 0.2, 0.3), power: int | float = 4, normalized: bool = False
) -> Float[Tensor, "B T"]:
    """Minus ||eps_0 - eps(x_t)||_p, where x_t holds the noise eps_0 that the model predicts for the clean picture.

    From 0 down. No noise is drawn, so that seeds play no part. `normalized` scales eps_0 to the mean absolute value of
    normal noise first (PIAN). Clean is the schedule's cleanest time.
    """
    eps_0 = pictured.seen(pictured.x_0, 0).eps_cond
    if normalized:
        size = eps_0.abs().flatten(1).mean(1).clamp_min(1e-12)[:, None, None, None]
        eps_0 = eps_0 * math.sqrt(2 / math.pi) / size
    drawn = [pictured.at(time, eps_0).eps_cond for time in some(times)]
    return -torch.stack([(eps_0 - eps).flatten(1).norm(p=float(power), dim=1) for eps in drawn], dim=1)
