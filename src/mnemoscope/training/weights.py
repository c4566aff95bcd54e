"""How much each noise level counts in the loss."""

import torch
from jaxtyping import Float
from torch import Tensor


def min_snr(
    alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"], gamma: int | float, kind: str
) -> Float[Tensor, " B"]:
    """Weight min(SNR, gamma) of the squared error of x_0, as a weight of that of what the network predicts.

    SNR = alpha^2 / sigma^2. For eps it is min(SNR, gamma) / SNR, for x_0 min(SNR, gamma), for v
    min(SNR, gamma) / (SNR + 1), and for a flow min(SNR, gamma) sigma^2, which v's is too where alpha^2 + sigma^2 = 1.
    Never NaN: where SNR is 0 it is 1 for eps and 0 for the others. Hang et al., arXiv:2303.09556, section 3.4 and
    appendix; Wen et al. trained v with the weight of eps.
    """
    signal, noise = alpha.square(), sigma.square()
    if kind == "epsilon":
        return (gamma * noise / signal).clamp(max=1)
    if kind == "sample":
        return (signal / noise).clamp(max=gamma)
    return torch.minimum(signal, gamma * noise)
