"""Exponential moving averages of the weights that train, one for each decay."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import nn


class Averages:
    """Averages of parameters, as diffusers keeps them: after s updates the decay is min(decay, (1 + s) / (10 + s))."""

    def __init__(self, parameters: Sequence[nn.Parameter], decays: Sequence[float]) -> None:
        self.parameters = list(parameters)
        self.decays = tuple(decays)
        self.models = {decay: EMAModel(self.parameters, decay=decay, foreach=True) for decay in decays}

    def update(self) -> None:
        """Take in the parameters after an update."""
        for model in self.models.values():
            model.step(self.parameters)

    @contextmanager
    def applied(self, decay: float) -> Iterator[None]:
        """The parameters are the average while the block is open, and themselves again after it."""
        values = [p.detach().clone() for p in self.parameters]
        self.models[decay].copy_to(self.parameters)
        try:
            yield
        finally:
            self._set(values)

    @property
    def updates(self) -> int:
        """How many updates the averages have taken in."""
        return next((model.optimization_step for model in self.models.values()), 0)

    def restore(self, decay: float, updates: int) -> None:
        """Make an average what the parameters are now, as after so many updates."""
        self.models[decay].shadow_params = [p.detach().clone() for p in self.parameters]
        self.models[decay].optimization_step = updates

    @torch.no_grad()
    def _set(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
