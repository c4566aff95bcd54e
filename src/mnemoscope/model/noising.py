"""Clean latents with noise of a known amount: times of the training schedule, and x_t there."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import schedule


def time_at(scheduler: Any, share: int | float) -> Tensor:
    """The training time that a share of the schedule is: 0 for its cleanest time, 1 for its noisiest, no dimension.

    A diffusion's times are whole, from 0 to T - 1; a flow's go from 1 to T, as at 0 nothing is to be predicted.
    Raises `UsageError` for what is no share, and for a schedule whose times are not counted.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"{share:g} is no time of a noise schedule; give a number from 0 (clean) to 1 (noise).")
    if scheduler.config.get("timestep_type") == "continuous":
        raise UsageError("The model's times are continuous, so that no share of its schedule is a time; use another.")
    most = scheduler.config.num_train_timesteps
    if schedule.is_flow(scheduler):
        return torch.tensor(max(1.0, share * most))
    return torch.tensor(round(share * (most - 1)))


def noised(
    scheduler: Any, x_0: Float[Tensor, "B C h w"], t: Tensor, noise: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "B C h w"], schedule.Level]:
    """x_t = alpha x_0 + sigma noise at a training time, in float32, with its level."""
    level = schedule.alpha_sigma(scheduler, t)
    return level.alpha * x_0.float() + level.sigma * noise, level
