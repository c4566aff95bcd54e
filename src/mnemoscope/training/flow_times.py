"""The times that a flow is trained at, and how much each counts, as in diffusers' own scripts for SD3 and FLUX."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.training.noise import Draws
from mnemoscope.training.options import ObjectiveOptions


@dataclass(frozen=True)
class FlowTimes:
    """A density of training times over the scheduler's shifted table. SD3, arXiv:2403.03206, section 3.1.

    `weighting` is "logit_normal" or "mode" for times that are not uniform, "sigma_sqrt" or "cosmap" for uniform ones
    whose losses are weighted, "none" for neither.
    """

    weighting: str
    logit_mean: int | float
    logit_std: int | float
    mode_scale: int | float

    @classmethod
    def of(cls, options: ObjectiveOptions, kind: str) -> "FlowTimes | None":
        """The times that options ask for; None for whole timesteps, all equally likely.

        Raises `UsageError` for a model that is no flow.
        """
        asked = options.weighting
        if (asked is not None or options.precondition_outputs) and kind != "flow_prediction":
            raise UsageError("--weighting and --precondition-outputs are for flows, and this model is none; drop them.")
        return None if asked is None else cls(asked, options.logit_mean, options.logit_std, options.mode_scale)

    def __call__(self, scheduler: Any, draws: Draws) -> Float[Tensor, " B"]:
        """A time for each sample, in the scheduler's units: its table at a place drawn from the density."""
        table = type(scheduler).from_config(scheduler.config).timesteps  # as the model was trained, from noise to image
        places = (self.shares(draws) * len(table)).long().clamp(max=len(table) - 1)
        return table[places].float()

    def shares(self, draws: Draws) -> Float[Tensor, " B"]:
        """Where in the table, from 0 for its beginning to 1."""
        if self.weighting == "logit_normal":
            return torch.sigmoid(self.logit_mean + self.logit_std * draws.normal("timestep", ()))
        u = draws.uniform("timestep")
        if self.weighting == "mode":
            u = 1 - u - self.mode_scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)
        return u

    def weights(self, sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """How much the loss at each noise level counts."""
        if self.weighting == "sigma_sqrt":
            return sigma**-2
        if self.weighting == "cosmap":
            return 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
        return torch.ones_like(sigma)
