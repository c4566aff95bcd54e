"""Kim and Lee: where in the image the text makes the density sharp."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods.contrast import Contrast, Reference
from mnemoscope.model.jacobian import diagonal
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import explainer


@explainer(
    paper="arXiv:2605.26756, curvature difference",
    cost="1 pair of evaluations with a graph and 16 gradients a sample and step, beyond the sampling",
    gives="regions",
)
def curvature_map(
    trajectory: Trajectory,
    *,
    steps: int | float | str | list = "last",
    how: Literal["rademacher", "exact"] = "rademacher",
    probes: int = 16,
    seed: int = 0,
    reference: Reference = None,
) -> Float[Tensor, "B h w"]:
    """Curvature that the text adds at each latent pixel: the diagonal of d(eps_cond - eps_uncond)/dx, if positive.

    Summed over channels and cut off at 0; in 1 / latent units, without the factor 1 / sigma of the score's Jacobian.
    The mean over the chosen steps. Values compare within one model and timestep. The diagonal is the mean of v times
    J^T v over `probes` random signs v, drawn from `seed` and the same for every sample, hence with an error; `exact`
    takes one gradient for each latent element. `reference`, a model or what it is loaded from, takes the place of the
    unconditional branch. Raises `UsageError` as `difference_map` does, for no probes, and at pure noise.
    """
    contrast = Contrast(trajectory, reference)
    with torch.no_grad():
        chosen = trajectory.chosen(steps)
    for step in chosen:
        step.require_image("curvature_map")
    maps = [diagonal(contrast.field(s), s.x_t.float(), how=how, probes=probes, seed=seed).sum(1).relu() for s in chosen]
    return torch.stack(maps).mean(0)
