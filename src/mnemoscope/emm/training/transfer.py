"""The first weights of a training from a network that was trained before."""

from dataclasses import dataclass

import torch

from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.training.sources import SUFFIX, Weights, fingerprint, network_of
from mnemoscope.errors import UsageError


@dataclass(frozen=True)
class Transferred:
    """What was taken over: the hash of the other network, how many weights fitted, the names of those that did not."""

    sha256: str
    taken: int
    new: tuple[str, ...]


@torch.no_grad()
def transfer(network: Preconditioned, source: str) -> Transferred:
    """Put the weights of another network of the same architecture into this one, where name and shape are the same.

    Of a training it is the first average of the last snapshot. What does not fit, such as the labels of another set,
    keeps its start. Raises `UsageError` for a source that is no network, and where nothing or no convolution fits.
    """
    named = network.kind if source.endswith(SUFFIX) else None
    other = network_of(source, Weights(preconditioning=named))
    theirs, state = other.state_dict(), network.state_dict()
    fits = [name for name, value in state.items() if name in theirs and theirs[name].shape == value.shape]
    if not any(state[name].ndim == 4 for name in fits):
        raise UsageError(f"{source} is another network, no weight of which fits this one; give its own options.")
    for name in fits:
        state[name].copy_(theirs[name])
    return Transferred(fingerprint(other), len(fits), tuple(name for name in state if name not in set(fits)))
