"""Neurons of all layers in one row, so that a set of them is a set of numbers."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.model import ablation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import value_places

Blocked = frozenset[int]  # neurons by their place in the row


class Space:
    """The layers that a search looks at, and where each of their neurons has its place."""

    def __init__(self, model: Denoiser, which: ablation.Layers = "seven") -> None:
        names = ablation.layers(model, which)
        places = value_places(model.network)
        self.places = {name: places[name] for name in names}
        self.width = max(place.stop for place in places.values())  # of the row, over all layers of the network
        self.device = model.device

    @property
    def widths(self) -> dict[str, int]:
        """Number of neurons of each layer."""
        return {name: place.stop - place.start for name, place in self.places.items()}

    def flat(self, neurons: Mapping[str, Sequence[int]]) -> Blocked:
        """Places of neurons that are given by layer and index."""
        return frozenset(self.places[name].start + i for name, indices in neurons.items() for i in indices)

    def lists(self, blocked: Iterable[int]) -> dict[str, list[int]]:
        """Neurons by layer and index, in order; layers without any are left out."""
        chosen = sorted(blocked)
        inside = {n: [i - p.start for i in chosen if p.start <= i < p.stop] for n, p in self.places.items()}
        return {name: indices for name, indices in inside.items() if indices}

    def gain(self, sets: Sequence[Blocked], factor: int | float = 0.0) -> Float[Tensor, "B N"]:
        """One row a set for `mnemoscope.model.ablation.steer`: factor - 1 for each of its neurons, 0 for all others."""
        row = [k for k, blocked in enumerate(sets) for _ in blocked]
        column = [i for blocked in sets for i in blocked]
        multiplied = torch.zeros(len(sets), self.width)
        multiplied[row, column] = factor - 1
        return multiplied.to(self.device)
