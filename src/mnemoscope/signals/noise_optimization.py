"""How far a noised picture has to be moved for the model to see the noise in it."""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.pictured import NoisedLook, SeenPictures
from mnemoscope.registry import signal


@signal(paper="arXiv:2411.12858", cost="1 evaluation, and 1 with gradient a step, for each time")
def noise_optimization(
    pictured: SeenPictures, *, times: list | tuple = (0.1,), steps: int = 5, rate: int | float = 1.0
) -> Float[Tensor, "B F"]:
    """Minus the denoising loss after x_t was moved down it, and minus how far it was moved; both at each time.

    Gradient steps of `rate` sigma^2 on half the squared error, in one step exact where the model knows one picture
    alone; each picture's are its own, where the paper takes 5 steps of L-BFGS. The loss is a mean over elements, the
    way ||delta||_2 in latent units. Raises `UsageError` for less than one step.
    """
    if steps < 1 or rate <= 0:
        raise UsageError(f"steps={steps} and rate={rate} were given; give 1 step or more, and a rate above 0.")
    return -pictured.over(times, lambda look: _moved(look, steps, rate))


def _moved(look: NoisedLook, steps: int, rate: float) -> Float[Tensor, "B 2"]:
    """The loss at the end, and the distance."""
    step, begun = look.step, look.step.x_t.float()
    x = begun
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            half = (step.eps_at(leaf.to(step.x_t.dtype)) - look.noise).square().sum() / 2
            (gradient,) = torch.autograd.grad(half, leaf)
        x = leaf.detach() - rate * step.sigma**2 * gradient
    error = (step.eps_at(x.to(step.x_t.dtype)) - look.noise).detach()
    return torch.stack([error.square().flatten(1).mean(1), (x - begun).flatten(1).norm(dim=1)], dim=1)
