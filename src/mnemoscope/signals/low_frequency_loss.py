"""How well the model denoises what is coarse in a picture."""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.registry import signal


@signal(paper="arXiv:2505.20955", cost="1 evaluation a time, shared with denoising_loss")
def low_frequency_loss(
    pictured: SeenPictures,
    *,
    times: list | tuple = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    cutoff: int | float = 0.5,
) -> Float[Tensor, "B T"]:
    """Minus the mean squared error of the predicted noise in its low spatial frequencies, at several times.

    Fine detail is hard whether it was trained on or not, so that its error says little. Kept are the frequencies up to
    `cutoff` of the highest along each axis, by a circle in the Fourier plane; 1.5 keeps all and gives `denoising_loss`.
    Raises `UsageError` for a cutoff of 0 or less.
    """
    if cutoff <= 0:
        raise UsageError(f"cutoff={cutoff} leaves no frequency; give a share of the highest one, above 0.")
    height, width = pictured.x_0.shape[2:]
    passed = _low(height, width, cutoff).to(pictured.x_0.device)

    def coarse(error: Float[Tensor, "B C h w"]) -> Float[Tensor, " B"]:
        spectrum = torch.fft.fft2(error, norm="ortho") * passed
        return spectrum.abs().square().flatten(1).mean(1)  # Parseval: the same as of the filtered error

    return pictured.over(times, lambda look: -coarse(look.error))


def _low(height: int, width: int, cutoff: float) -> Float[Tensor, "h w"]:
    """1 for the frequencies that pass, in the order of `fft2`; the highest along an axis is half a cycle a pixel."""
    down, across = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    return ((down[:, None].square() + across.square()).sqrt() <= 0.5 * cutoff).float()
