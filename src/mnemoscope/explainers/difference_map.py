"""Kim and Lee: where in the image the text moves the score, free where the image is generated anyway."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.contrast import Contrast, Reference
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import explainer

Units = Literal["score", "noise", "x0"]


@explainer(paper="arXiv:2605.26756, score difference", cost="no evaluation beyond the sampling itself", gives="regions")
def difference_map(
    trajectory: Trajectory,
    *,
    steps: int | float | str | list = "last",
    units: Units = "score",
    reference: Reference = None,
) -> Float[Tensor, "B h w"]:
    """Squared difference of the scores with and without the text, summed over channels, at each latent pixel.

    ||(eps_cond - eps_uncond) / sigma||^2 over the channels of a pixel; `units="noise"` leaves out sigma, and "x0" takes
    the predicted clean images, for steps at pure noise, where the other two are zero and refused. From 0 upwards; the
    mean over the chosen steps. Values compare within one model and timestep. `reference`, a model or what
    it is loaded from, takes the place of the unconditional branch: its prediction for the same prompt, at one more
    evaluation a sample and step, which is counted there. Raises `UsageError` for a model without an unconditional
    branch and no reference, and for a reference with other latents or noise levels.
    """
    contrast = Contrast(trajectory, reference)
    with torch.no_grad():
        chosen = trajectory.chosen(steps)
        return torch.stack([_difference(contrast, step, units).square().sum(1) for step in chosen]).mean(0)


def _difference(contrast: Contrast, step: Step, units: Units) -> Float[Tensor, "B C h w"]:
    if units == "x0":
        return contrast.push(step)
    step.require_image("difference_map but for units=x0")
    return contrast.at(step) / (1 if units == "noise" else step.sigma)
