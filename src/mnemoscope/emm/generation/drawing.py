"""Images of a trained network from seeds, and how often the network was asked for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.sampling.crew import DrawnShare
from mnemoscope.emm.sampling.drawing import sample_images
from mnemoscope.emm.sampling.options import Sampling
from mnemoscope.emm.training.sources import Weights, network_of


class Counting:
    """A network as a sampler takes it, that counts its evaluations: one for each image of a call."""

    def __init__(self, network: Preconditioned) -> None:
        self.network, self.evaluations = network, 0
        self.sigma_min, self.sigma_max = float(network.sigma_min), float(network.sigma_max)
        self.num_classes = network.num_classes

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        self.evaluations += len(x)
        return self.network(x, sigma, labels)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return self.network.round_sigma(sigma)


@dataclass(frozen=True)
class NetworkImages:
    """Draws images of a network; a source is its place and its snapshot."""

    weights: Weights
    sampling: Sampling
    label: int | None
    batch_size: int
    device: str

    def __call__(self, source: tuple[str, str | int], seeds: Sequence[int]) -> DrawnShare:
        network = self.network(source)
        counting = Counting(network)
        pixels, labels = sample_images(
            counting,
            seeds,
            shape=(network.channels, network.resolution, network.resolution),
            batch_size=self.batch_size,
            label=self.label,
            device=self.device,
            sampler=self.sampling.sampler(),
        )
        return DrawnShare(pixels, labels, counting.evaluations)

    def network(self, source: tuple[str, str | int]) -> Any:
        """The network of a source, on the device; the last one is kept."""
        return _placed(source, self.weights, self.device)


@lru_cache(maxsize=1)
def _placed(source: tuple[str, str | int], weights: Weights, device: str) -> Preconditioned:
    return network_of(source[0], weights, source[1]).to(device)
